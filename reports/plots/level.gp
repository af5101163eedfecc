# level.gp - one value per layer and its reference. Rows "index value reference"; N layers; TOP: end
# of the axis; WHAT: 1 = confidence, 2 = margin.
set lmargin at screen (TOP < 0.02 ? 68.0 : 52.0) / W
set rmargin at screen 1.0 - 12.0 / W
set tmargin at screen 1.0 - 26.0 / H
set bmargin at screen 46.0 / H
set xrange [-0.6:N - 0.4]
set yrange [0:TOP]
set xlabel 'layer' textcolor rgb INK offset 0,0.7
if (WHAT == 1) {
	set label 1 'selected probability' at screen 6.0 / W, screen 1.0 - 11.0 / H textcolor rgb INK
} else {
	set label 1 'mean margin, units of the score' at screen 6.0 / W, screen 1.0 - 11.0 / H textcolor rgb INK
}
set xtics scale 0 offset 0,0.3
w = N > 40 ? 0.46 : 0.36
plot DATA using 1:2:($1 - w):($1 + w):(0):2 with boxxyerror linecolor rgb MAIN, \
	DATA using ($1 - 0.5):3:(1):(0) with vectors nohead linecolor rgb FAIR linewidth 2
