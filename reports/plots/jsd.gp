# jsd.gp - how differently domains use the experts, in bits. Rows "column row bits"; N domains;
# MAX: top of the scale; NUM: figures in cells; LEFT: px for names.
set palette defined (0 '#f7f7f7', 0.5 '#a48bc4', 1 '#40205f') maxcolors 65
set cbrange [0:MAX]
set cbtics 0, MAX / 2.0, MAX format '%.2g bits' scale 0 offset 0,0.3
set colorbox horizontal user origin screen (W < 500 ? 0.45 : 0.55), screen 1.0 - 20.0 / H size screen (W < 500 ? 0.42 : 0.30), screen 9.0 / H
set lmargin at screen real(LEFT) / W
set rmargin at screen 1.0 - 12.0 / W
set tmargin at screen 1.0 - 48.0 / H
set bmargin at screen 30.0 / H
set xrange [-0.5:N - 0.5]
set yrange [N - 0.5:-0.5]
unset grid
unset border
set tics scale 0
do for [i = 1:N - 1] { set arrow from i - 0.5, graph 0 to i - 0.5, graph 1 nohead front linecolor rgb PAPER linewidth 1 }
do for [i = 1:N - 1] { set arrow from graph 0, first i - 0.5 to graph 1, first i - 0.5 nohead front linecolor rgb PAPER linewidth 1 }
ink(v) = v > 0.45 * MAX ? 0xffffff : 0x1a1a1a
if (NUM) {
	plot DATA using 1:2:3 with image, \
		DATA using 1:2:(sprintf('%.2f', $3)):(ink($3)) with labels font ',11' textcolor rgb variable
} else {
	plot DATA using 1:2:3 with image
}
