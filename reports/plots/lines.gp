# lines.gp - lines over a common axis. Blocks "x y", a blank line pair between lines; X0, X1, Y0,
# Y1: ends of the axes; KEY: rows of names of the lines, above the picture; PLOT: the lines, in order of the blocks.
set lmargin at screen 62.0 / W
set rmargin at screen 1.0 - 16.0 / W
set tmargin at screen 1.0 - (26.0 + 17.0 * KEY) / H
set bmargin at screen 46.0 / H
set xrange [X0:X1]
set yrange [Y0:Y1]
set label 1 YLABEL at screen 6.0 / W, screen 1.0 - 11.0 / H textcolor rgb INK
set xlabel XLABEL textcolor rgb INK offset 0,0.7
set xtics scale 0 offset 0,0.3
if (KEY) { set key at screen 1.0 - 16.0 / W, screen 1.0 - 20.0 / H right top horizontal Left reverse samplen 2.2 width 1 maxrows KEY textcolor rgb INK }
set pointintervalbox 0
eval PLOT
