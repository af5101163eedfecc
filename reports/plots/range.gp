# range.gp - a value with its interval per layer and what shuffled labels reach.
# Rows "index value low high null_mean null_p95"; N layers; TOP: end of the axis.
set lmargin at screen 52.0 / W
set rmargin at screen 1.0 - 12.0 / W
set tmargin at screen 1.0 - 26.0 / H
set bmargin at screen 46.0 / H
set xrange [-0.6:N - 0.4]
set yrange [0:TOP]
set xlabel 'layer' textcolor rgb INK offset 0,0.7
set label 1 'mutual information, bits' at screen 6.0 / W, screen 1.0 - 11.0 / H textcolor rgb INK
set xtics scale 0 offset 0,0.3
w = 0.32
plot DATA using 1:6:($1 - w):($1 + w):(0):6 with boxxyerror linecolor rgb PALE, \
	DATA using ($1 - w):6:(2 * w):(0) with vectors nohead linecolor rgb FAIR linewidth 2, \
	DATA using 1:3:(0):($4 - $3) with vectors nohead linecolor rgb MAIN linewidth 2, \
	DATA using 1:2 with points pointtype 7 pointsize 0.6 linecolor rgb MAIN
