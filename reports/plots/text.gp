# text.gp - bits per byte of each domain and of all text. Rows "row value"; N domains; ALL: overall;
# LEFT: px for names; TOP: end of the axis.
set lmargin at screen real(LEFT) / W
set rmargin at screen 1.0 - 14.0 / W
set tmargin at screen 1.0 - 10.0 / H
set bmargin at screen 46.0 / H
set yrange [N - 0.5:-0.5]
set xrange [0:TOP]
set xlabel 'bits per byte of text' textcolor rgb INK offset 0,0.7
set border 1
set tics scale 0
set xtics offset 0,0.3
set grid xtics noytics linecolor rgb GRID linewidth 1 dashtype solid
set arrow 1 from first ALL, graph 0 to first ALL, graph 1 nohead front linecolor rgb FAIR linewidth 2
plot DATA using 2:1:(0):2:($1 - 0.32):($1 + 0.32) with boxxyerror linecolor rgb MAIN
