# common.gp - in front of every script. W, H: size in pixels; DATA, OUT: the files.
# Colours are numbers that the page gives a meaning, in light and in dark (svg.c, style.css):
# 1 ink, 2 axes, 3 grid, 4 the data, 5 fair share or null, 6 alarm, 7 background data, 8 paper,
# 9 capacity.
INK = '#010101'; AXIS = '#020202'; GRID = '#030303'; MAIN = '#040404'; FAIR = '#050505'
ALARM = '#060606'; PALE = '#070707'; PAPER = '#080808'; LIMIT = '#090909'
set encoding utf8
set terminal svg size W,H dynamic font 'sans-serif,13' noenhanced
set output OUT
set datafile missing '?'
set border 3 linecolor rgb AXIS
set tics nomirror out scale 0.5 textcolor rgb INK
set grid noxtics ytics linecolor rgb GRID linewidth 1 dashtype solid
set style fill solid 1 noborder
unset key
