# sorted.gp - experts of each layer from busiest to idlest. Blocks "rank rel", a blank line pair
# between layers; N layers, E the most experts of a layer, WORST: block of the most uneven one;
# TOP: end of the axis.
set lmargin at screen 44.0 / W
set rmargin at screen 1.0 - 12.0 / W
set tmargin at screen 1.0 - 26.0 / H
set bmargin at screen 46.0 / H
set xrange [E > 1 ? 1 : 0.5:E > 1 ? E : 1.5]
set yrange [0:TOP]
set xlabel 'expert, by rank of load' textcolor rgb INK offset 0,0.7
set label 1 'load, × fair share' at screen 6.0 / W, screen 1.0 - 11.0 / H textcolor rgb INK
set xtics scale 0 offset 0,0.3
if (E <= 20) { set xtics 1 } else { set xtics add ('1' 1) }
set arrow 1 from graph 0, first 1 to graph 1, first 1 nohead front linecolor rgb FAIR linewidth 2
set arrow 2 from graph 0, first 1.25 to graph 1, first 1.25 nohead front linecolor rgb LIMIT linewidth 1.5 dashtype (6,4)
PS = E <= 40 ? 0.45 : 0.001
set pointintervalbox 0
if (E > 40) {
	plot for [i = 0:N - 1] DATA index i using 1:2 with lines linecolor rgb PALE linewidth 1, \
		DATA index WORST using 1:2 with lines linecolor rgb MAIN linewidth 2.5
} else {
	plot for [i = 0:N - 1] DATA index i using 1:2 with lines linecolor rgb PALE linewidth 1, \
		DATA index WORST using 1:2 with lines linecolor rgb MAIN linewidth 2.5, \
		DATA index WORST using 1:2 with points pointtype 7 pointsize PS linecolor rgb MAIN
}
