# bars.gp - max/mean of each layer. Rows "index value"; N layers; TOP: end of the axis.
set lmargin at screen 44.0 / W
set rmargin at screen 1.0 - 12.0 / W
set tmargin at screen 1.0 - 26.0 / H
set bmargin at screen 46.0 / H
set xrange [-0.6:N - 0.4]
set xlabel 'layer' textcolor rgb INK offset 0,0.7
set label 1 'busiest expert, × fair share' at screen 6.0 / W, screen 1.0 - 11.0 / H textcolor rgb INK
set xtics scale 0 offset 0,0.3
if (TOP > 8) {
	set logscale y 2
	set yrange [0.9:TOP]
} else {
	set yrange [1 - 0.04 * (TOP - 1):TOP]
}
set arrow 1 from graph 0, first 1 to graph 1, first 1 nohead front linecolor rgb FAIR linewidth 2
set arrow 2 from graph 0, first 1.25 to graph 1, first 1.25 nohead front linecolor rgb LIMIT linewidth 1.5 dashtype (6,4)
# What would be over capacity has the colour of the capacity line.
w = N > 40 ? 0.46 : 0.36
plot DATA using 1:2:($1 - w):($1 + w):(1):2 with boxxyerror linecolor rgb MAIN, \
	DATA using 1:($2 > 1.25 ? $2 : NaN):($1 - w):($1 + w):(1.25):2 with boxxyerror linecolor rgb LIMIT
