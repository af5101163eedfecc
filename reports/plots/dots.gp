# dots.gp - strongest expert of each domain: value, interval, null. Rows
# "row value low high null_p95 proven"; N domains; LEFT: px for names; TOP: end of the axis.
set lmargin at screen real(LEFT) / W
set rmargin at screen 1.0 - 14.0 / W
set tmargin at screen 1.0 - 10.0 / H
set bmargin at screen 46.0 / H
set yrange [N - 0.5:-0.5]
set xrange [0:TOP]
set xlabel 'load of the strongest expert, × fair share' textcolor rgb INK offset 0,0.7
set xtics scale 0 offset 0,0.3
set border 1
set ytics scale 0
set grid xtics noytics linecolor rgb GRID linewidth 1 dashtype solid
set arrow 1 from first 1, graph 0 to first 1, graph 1 nohead front linecolor rgb FAIR linewidth 2
h = 0.3
plot DATA using 2:1:(0):5:($1 - h):($1 + h) with boxxyerror linecolor rgb PALE, \
	DATA using 5:($1 - h):(0):(2 * h) with vectors nohead linecolor rgb FAIR linewidth 2, \
	DATA using ($6 > 0 ? $3 : NaN):1:($4 - $3):(0) with vectors nohead linecolor rgb MAIN linewidth 2, \
	DATA using ($6 > 0 ? NaN : $3):1:($4 - $3):(0) with vectors nohead linecolor rgb AXIS linewidth 1, \
	DATA using ($6 > 0 ? $2 : NaN):1 with points pointtype 7 pointsize 0.7 linecolor rgb MAIN, \
	DATA using ($6 > 0 ? NaN : $2):1 with points pointtype 7 pointsize 0.5 linecolor rgb AXIS
