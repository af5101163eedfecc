# spans.gp - times per token of each domain: from the 10 % to the 90 % of sequences, the median and the
# slowest. Rows "row p10 p50 p90 slowest"; N domains; LEFT: px for names; LOW, TOP: ends of the axis;
# LOGX: 1 = logarithmic.
set lmargin at screen real(LEFT) / W
set rmargin at screen 1.0 - 14.0 / W
set tmargin at screen 1.0 - 10.0 / H
set bmargin at screen 46.0 / H
set yrange [N - 0.5:-0.5]
if (LOGX) {
	set logscale x
}
set xrange [LOW:TOP]
set xlabel LOGX ? 'ms per token, logarithmic' : 'ms per token' textcolor rgb INK offset 0,0.7
set border 1
set tics scale 0
set xtics offset 0,0.3
set grid xtics noytics linecolor rgb GRID linewidth 1 dashtype solid
h = 0.26
plot DATA using 2:1:2:4:($1 - h):($1 + h) with boxxyerror linecolor rgb PALE, \
	DATA using 5:($1 - h):(0):(2 * h) with vectors nohead linecolor rgb AXIS linewidth 1.5, \
	DATA using 3:1 with points pointtype 7 pointsize 0.7 linecolor rgb MAIN
