# heat.gp - relative load as colour: blue below fair share, white at it, red above; grey: no data.
# Rows "column row rel". NC, NR: columns and rows; LEFT: px for row names; NUM: figures in cells;
# STEP: every how many columns a name; NAMES: 1 = rows are layers.
lg(r) = r <= 0.25 ? -2 : r >= 4 ? 2 : log(r) / log(2)
set palette defined (-2 '#134b8a', -1 '#5b9bcf', -0.5 '#b5d3e7', 0 '#f7f7f7', 0.5 '#f6c4ac', 1 '#dc6f58', 2 '#8f0d25') maxcolors 65
set cbrange [-2:2]
set cbtics ('≤ ¼×' -2, '½×' -1, 'fair share' 0, '2×' 1, '≥ 4×' 2) scale 0 offset 0,0.3
set colorbox horizontal user origin screen (W < 500 ? 0.30 : 0.40), screen 1.0 - 20.0 / H size screen (W < 500 ? 0.56 : 0.42), screen 9.0 / H
set lmargin at screen real(LEFT) / W
set rmargin at screen 1.0 - 10.0 / W
set tmargin at screen 1.0 - 48.0 / H
set bmargin at screen 44.0 / H
set xrange [-0.5:NC - 0.5]
set yrange [NR - 0.5:-0.5]
unset grid
unset border
set tics scale 0
set xtics STEP offset 0,0.4
set xlabel 'expert' textcolor rgb INK offset 0,0.9
if (NAMES == 1) set label 1 'layer' at screen 0.0, screen 1.0 - 36.0 / H textcolor rgb INK
set object 1 rectangle from graph 0, graph 0 to graph 1, graph 1 behind fillcolor rgb PALE fillstyle solid 1
# Thin lines of paper keep the cells of a small map apart.
if (NC <= 64) { do for [i = 1:NC - 1] { set arrow from i - 0.5, graph 0 to i - 0.5, graph 1 nohead front linecolor rgb PAPER linewidth 1 } }
if (NR <= 64) { do for [i = 1:NR - 1] { set arrow from graph 0, first i - 0.5 to graph 1, first i - 0.5 nohead front linecolor rgb PAPER linewidth 1 } }
fig(r) = r >= 9.95 ? sprintf('%.0f', r) : sprintf('%.1f', r)
ink(r) = abs(lg(r)) > 0.9 ? 0xffffff : 0x1a1a1a
# gnuplot draws no image of a single row or column; boxes do for so few cells.
BOXES = NR == 1 || NC == 1
plot DATA using 1:2:(BOXES ? NaN : lg($3)) with image, \
	DATA using (BOXES ? $1 : NaN):2:($1 - 0.5):($1 + 0.5):($2 - 0.5):($2 + 0.5):(lg($3)) with boxxyerror \
		linecolor palette, \
	DATA using (NUM && $3 >= 0 ? $1 : NaN):2:(fig($3)):(ink($3)) with labels font ',11' textcolor rgb variable
