"""Read and write GGUF v3 files and their block-quantised tensors, with NumPy only.

This is the tests' independent reference: it shares no code with the C reader. It favours
being easy to check against the format's description over speed and over rejecting bad files.

Writing:   write_gguf(path, kv, tensors)
    kv       dict name -> value. int means u32, float f32, bool, str; a list or array becomes an
             array (of i32, f32, bool or string). Any other type: name -> Typed("u64", value),
             Typed("arr:u8", [...]).
    tensors  list of (name, float array, type name), e.g. ("blk.0.attn_q.weight", w, "Q8_0").
             The array has NumPy's order (slowest dimension first); the file gets GGUF's
             (fastest first), so a matrix [n_out][n_in] is stored with dims (n_in, n_out).

Reading:   g = read_gguf(path);  g.kv[name];  g.tensor(name) -> float32 array;  g.raw(name) -> bytes

Layout of the file: "GGUF", u32 version, u64 n_tensors, u64 n_kv; the key/value pairs
(string key, u32 type, value); one record per tensor (string name, u32 n_dims, u64 dims[],
u32 type, u64 offset); padding to general.alignment (32); tensor data, each padded likewise,
offsets counted from the start of the data. A string is u64 length + bytes. Little endian.
"""
import os
import re
import struct

import numpy as np

ALIGNMENT = 32

# ---------------------------------------------------------------- metadata types
KV_TYPES = ["u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "str", "arr", "u64", "i64", "f64"]
KV_ID = {name: i for i, name in enumerate(KV_TYPES)}
SCALAR = {"u8": "<u1", "i8": "<i1", "u16": "<u2", "i16": "<i2", "u32": "<u4", "i32": "<i4",
          "f32": "<f4", "bool": "<u1", "u64": "<u8", "i64": "<i8", "f64": "<f8"}


class Typed:
    """A metadata value with its type said: Typed("u64", 7), Typed("arr:i8", [1, 2])."""

    def __init__(self, kind, value):
        self.kind, self.value = kind, value


# ---------------------------------------------------------------- tensor types
# name: (id in the file, values per block, bytes per block)
TYPES = {
    "F32": (0, 1, 4), "F16": (1, 1, 2), "Q4_0": (2, 32, 18), "Q4_1": (3, 32, 20),
    "Q5_0": (6, 32, 22), "Q5_1": (7, 32, 24), "Q8_0": (8, 32, 34), "Q4_K": (12, 256, 144),
    "Q5_K": (13, 256, 176), "Q6_K": (14, 256, 210), "I8": (24, 1, 1), "I16": (25, 1, 2),
    "I32": (26, 1, 4), "I64": (27, 1, 8), "F64": (28, 1, 8), "BF16": (30, 1, 2),
    "MXFP4": (39, 32, 17), "NVFP4": (40, 64, 36), "Q1_0": (41, 128, 18), "Q2_0": (42, 64, 18),
    "Q2_K": (10, 256, 84), "Q3_K": (11, 256, 110), "IQ2_XXS": (16, 256, 66),
    "IQ2_XS": (17, 256, 74), "IQ3_XXS": (18, 256, 98), "IQ1_S": (19, 256, 50),
    "IQ4_NL": (20, 32, 18), "IQ3_S": (21, 256, 110), "IQ2_S": (22, 256, 82),
    "IQ4_XS": (23, 256, 136), "IQ1_M": (29, 256, 56), "TQ1_0": (34, 256, 54),
    "TQ2_0": (35, 256, 66),
}
TYPE_NAME = {v[0]: k for k, v in TYPES.items()}
INT_DTYPE = {"I8": "<i1", "I16": "<i2", "I32": "<i4", "I64": "<i8", "F64": "<f8"}
f32 = np.float32


def type_size(name, n):
    """Bytes of n values of this type; n must be whole blocks."""
    _, per, size = TYPES[name]
    assert n % per == 0, f"{n} values are not whole blocks of {name}"
    return n // per * size


def _f16_bytes(x):
    """float array [B] -> bytes [B][2] of IEEE half."""
    return np.ascontiguousarray(x, dtype="<f2").view(np.uint8).reshape(-1, 2)


def _half(b):
    """bytes [B][2] -> float32 [B][1]."""
    return np.ascontiguousarray(b).view("<f2").astype(f32)


def _inv(d):
    """1/d, and 0 where d is 0."""
    d = np.asarray(d, dtype=f32)
    return np.divide(f32(1), d, out=np.zeros_like(d), where=d != 0)


def _signed_absmax(x):
    """The value of greatest magnitude in each row, with its sign: [B][n] -> [B]."""
    return x[np.arange(len(x)), np.argmax(np.abs(x), axis=1)]


def _nibbles(q):
    """[B][32] of 0..15 -> [B][16]: value j in the low half of byte j, value j+16 in the high."""
    q = q.astype(np.uint8)
    return q[:, :16] | (q[:, 16:] << 4)


def _unnibbles(b):
    return np.concatenate([b & 15, b >> 4], axis=1)


def _clip(x, lo, hi):
    return np.clip(np.rint(x), lo, hi).astype(np.int32)


# Each pair quantises float32 [B][per block] to bytes [B][bytes per block] and back. The inverse is
# the definition of the type; the forward is merely one sensible way to fill its fields.
def q_f16(x):
    return _f16_bytes(x)


def d_f16(b):
    return _half(b)


def q_bf16(x):
    u = np.ascontiguousarray(x, dtype="<f4").view("<u4").reshape(-1).astype(np.uint64)
    u = (u + 0x7FFF + ((u >> 16) & 1)) >> 16          # to nearest, ties to even
    return u.astype("<u2").view(np.uint8).reshape(-1, 2)


def d_bf16(b):
    return (np.ascontiguousarray(b).view("<u2").astype("<u4") << 16).view("<f4")


def q_q8_0(x):                          # f16 d; i8 q[32]; x = d q
    d = np.abs(x).max(axis=1) / f32(127)
    q = _clip(x * _inv(d)[:, None], -127, 127).astype(np.int8)
    return np.concatenate([_f16_bytes(d), q.view(np.uint8)], axis=1)


def d_q8_0(b):
    return _half(b[:, :2]) * np.ascontiguousarray(b[:, 2:]).view(np.int8).astype(f32)


def q_q4_0(x):                          # f16 d; nibbles; x = d (q - 8)
    d = _signed_absmax(x) / f32(-8)
    return np.concatenate([_f16_bytes(d), _nibbles(_clip(x * _inv(d)[:, None] + 8, 0, 15))], axis=1)


def d_q4_0(b):
    return _half(b[:, :2]) * (_unnibbles(b[:, 2:]).astype(f32) - 8)


def _q_min(x, top):
    lo = x.min(axis=1)
    d = (x.max(axis=1) - lo) / f32(top)
    return d, lo, _clip((x - lo[:, None]) * _inv(d)[:, None], 0, top)


def q_q4_1(x):                          # f16 d, m; nibbles; x = d q + m
    d, m, q = _q_min(x, 15)
    return np.concatenate([_f16_bytes(d), _f16_bytes(m), _nibbles(q)], axis=1)


def d_q4_1(b):
    return _half(b[:, :2]) * _unnibbles(b[:, 4:]).astype(f32) + _half(b[:, 2:4])


def _fifth(q):
    """Bit 4 of each of [B][32] -> u32 little endian, bit j for value j, as bytes [B][4]."""
    return np.packbits((q >> 4).astype(np.uint8), axis=1, bitorder="little")


def _unfifth(b):
    return np.unpackbits(np.ascontiguousarray(b), axis=1, bitorder="little") << 4


def q_q5_0(x):                          # f16 d; u32 high bits; nibbles; x = d (q - 16)
    d = _signed_absmax(x) / f32(-16)
    q = _clip(x * _inv(d)[:, None] + 16, 0, 31)
    return np.concatenate([_f16_bytes(d), _fifth(q), _nibbles(q & 15)], axis=1)


def d_q5_0(b):
    return _half(b[:, :2]) * ((_unnibbles(b[:, 6:]) | _unfifth(b[:, 2:6])).astype(f32) - 16)


def q_q5_1(x):                          # f16 d, m; u32 high bits; nibbles; x = d q + m
    d, m, q = _q_min(x, 31)
    return np.concatenate([_f16_bytes(d), _f16_bytes(m), _fifth(q), _nibbles(q & 15)], axis=1)


def d_q5_1(b):
    q = _unnibbles(b[:, 8:]) | _unfifth(b[:, 4:8])
    return _half(b[:, :2]) * q.astype(f32) + _half(b[:, 2:4])


# K-quants: 256 values. Q4_K and Q5_K have 8 sub-blocks of 32, each with a 6-bit scale s and a
# 6-bit minimum m; x = (d s) q - (dmin m). The 16 six-bit numbers lie in 12 bytes: sub-blocks
# 0..3 in the low six bits of bytes j (s) and j+4 (m); sub-blocks 4..7 in the nibbles of byte
# j+4 (s low, m high), their upper two bits on top of bytes j-4 (s) and j (m).
def _pack6(s, m):
    s, m = s.astype(np.uint8), m.astype(np.uint8)
    return np.concatenate([(s[:, :4] & 63) | (s[:, 4:] >> 4 << 6),
                           (m[:, :4] & 63) | (m[:, 4:] >> 4 << 6),
                           (s[:, 4:] & 15) | (m[:, 4:] & 15) << 4], axis=1)


def _unpack6(b):
    lo, mi, hi = b[:, 0:4], b[:, 4:8], b[:, 8:12]
    s = np.concatenate([lo & 63, (hi & 15) | (lo >> 6 << 4)], axis=1)
    m = np.concatenate([mi & 63, (hi >> 4) | (mi >> 6 << 4)], axis=1)
    return s.astype(f32), m.astype(f32)


def _k_fields(x, top):
    """Scales and quants of Q4_K/Q5_K: head bytes [B][16] and q [B][8][32]."""
    sub = x.reshape(-1, 8, 32)
    lo = np.minimum(sub.min(axis=2), 0)
    scale = (sub.max(axis=2) - lo) / f32(top)
    d, dmin = scale.max(axis=1) / f32(63), (-lo).max(axis=1) / f32(63)
    db, mb = _f16_bytes(d), _f16_bytes(dmin)
    d, dmin = _half(db), _half(mb)
    s, m = _clip(scale * _inv(d), 0, 63), _clip(-lo * _inv(dmin), 0, 63)
    step, off = (d * s)[:, :, None], (dmin * m)[:, :, None]
    return np.concatenate([db, mb, _pack6(s, m)], axis=1), _clip((sub + off) * _inv(step), 0, top)


def _k_nibbles(q):
    """[B][8][32] low nibbles -> [B][128]: sub-blocks 2i (low half) and 2i+1 (high) share 32 bytes."""
    q = q.astype(np.uint8) & 15
    return (q[:, 0::2] | (q[:, 1::2] << 4)).reshape(-1, 128)


def _k_unnibbles(b):
    b = b.reshape(-1, 4, 1, 32)
    return np.concatenate([b & 15, b >> 4], axis=2).reshape(-1, 8, 32)


def _k_value(b, q):
    s, m = _unpack6(b[:, 4:16])
    step, off = _half(b[:, :2]) * s, _half(b[:, 2:4]) * m
    return (step[:, :, None] * q.astype(f32) - off[:, :, None]).reshape(-1, 256)


def q_q4_k(x):                          # f16 d, dmin; 12 bytes of scales; nibbles[128]
    head, q = _k_fields(x, 15)
    return np.concatenate([head, _k_nibbles(q)], axis=1)


def d_q4_k(b):
    return _k_value(b, _k_unnibbles(b[:, 16:]))


def q_q5_k(x):                          # ... 12 bytes of scales; high bits[32]; nibbles[128]
    head, q = _k_fields(x, 31)          # bit s of high byte l: value l of sub-block s
    high = np.packbits((q >> 4).astype(np.uint8).transpose(0, 2, 1), axis=2, bitorder="little")
    return np.concatenate([head, high.reshape(-1, 32), _k_nibbles(q)], axis=1)


def d_q5_k(b):
    high = np.unpackbits(np.ascontiguousarray(b[:, 16:48])[:, :, None], axis=2, bitorder="little")
    return _k_value(b, _k_unnibbles(b[:, 48:]) | (high.transpose(0, 2, 1) << 4))


# Q6_K: low nibbles[128], high pairs[64], i8 scale[16] (one per 16 values), f16 d; x = d s (q - 32).
# Each half of 128 values is four runs of 32, A B C D: nibbles 0..31 hold A (low) and C (high),
# nibbles 32..63 B and D; the pairs of byte l are A, B, C, D from the lowest bits up.
def q_q6_k(x):
    sub = x.reshape(-1, 16)
    scale = (_signed_absmax(sub) / f32(-32)).reshape(-1, 16)
    db = _f16_bytes(_signed_absmax(scale) / f32(-128))
    d = _half(db)
    s = _clip(scale * _inv(d), -128, 127)
    q = _clip(x.reshape(-1, 16, 16) * _inv(d * s)[:, :, None] + 32, 0, 63)
    q = q.reshape(-1, 2, 4, 32).astype(np.uint8)
    a, b, c, e = q[:, :, 0], q[:, :, 1], q[:, :, 2], q[:, :, 3]
    low = np.concatenate([(a & 15) | (c & 15) << 4, (b & 15) | (e & 15) << 4], axis=2)
    high = a >> 4 | (b >> 4) << 2 | (c >> 4) << 4 | (e >> 4) << 6
    return np.concatenate([low.reshape(-1, 128), high.reshape(-1, 64),
                           s.astype(np.int8).view(np.uint8), db], axis=1)


def d_q6_k(b):
    low, high = b[:, :128].reshape(-1, 2, 2, 32), b[:, 128:192].reshape(-1, 2, 32)
    runs = [low[:, :, 0] & 15, low[:, :, 1] & 15, low[:, :, 0] >> 4, low[:, :, 1] >> 4]
    q = np.stack([r | (high >> 2 * i & 3) << 4 for i, r in enumerate(runs)], axis=2)
    step = _half(b[:, 208:210]) * np.ascontiguousarray(b[:, 192:208]).view(np.int8).astype(f32)
    return (step[:, :, None] * (q.reshape(-1, 16, 16).astype(f32) - 32)).reshape(-1, 256)


# MXFP4: one exponent byte e, nibbles; x = 2^(e-127) v/2 with v from this table.
MX_VALUES = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], dtype=f32)


def q_mxfp4(x):
    top = np.abs(x).max(axis=1)
    e = np.where(top > 0, np.floor(np.log2(np.where(top > 0, top, 1))) - 2 + 127, 0)
    e = np.clip(e, 0, 254).astype(np.int32)
    v = x * np.exp2(128.0 - e)[:, None]
    q = np.argmin(np.abs(v[:, :, None] - MX_VALUES), axis=2)
    return np.concatenate([e.astype(np.uint8)[:, None], _nibbles(q)], axis=1)


def d_mxfp4(b):
    return MX_VALUES[_unnibbles(b[:, 1:])] * np.exp2(b[:, :1].astype(np.float64) - 128).astype(f32)


# ---------------------------------------------------------------- read only: no forward codec here
# NVFP4: 64 values; four unsigned E4M3 scales, then eight bytes of nibbles for each 16 values, low
# nibbles first. x = scale v/2. The code that would be NaN stands for 0; the top bit is ignored.
def _e4m3(b):
    e, m = (b >> 3 & 15).astype(np.int32), (b & 7).astype(np.float64)
    x = np.where(e == 0, np.ldexp(m, -9), np.ldexp(1 + m / 8, e - 7))
    return np.where(b == 0x7F, 0, x).astype(f32)


def d_nvfp4(b):
    q = b[:, 4:].reshape(-1, 4, 8)
    v = MX_VALUES[np.concatenate([q & 15, q >> 4], axis=2)]
    return (_e4m3(b[:, :4])[:, :, None] * f32(0.5) * v).reshape(-1, 64)


def d_q1_0(b):                          # f16 d; a bit for each of 128 values: -d or d
    bit = np.unpackbits(np.ascontiguousarray(b[:, 2:]), axis=1, bitorder="little")
    return _half(b[:, :2]) * (2 * bit.astype(f32) - 1)


def d_q2_0(b):                          # f16 d; two bits for each of 64 values: d (q - 1)
    return _half(b[:, :2]) * (_two_bits(b[:, 2:]).astype(f32) - 1)


def _two_bits(b):
    """[B][n] -> [B][4n], the lowest two bits of a byte first."""
    return (b[:, :, None] >> np.arange(0, 8, 2, dtype=np.uint8) & 3).reshape(len(b), -1)


def _planes(b):
    """[B][64] -> [B][256] of two bits: each 32 bytes hold four runs of 32 values, from bits 0 up."""
    b = b.reshape(-1, 2, 1, 32) >> np.arange(0, 8, 2, dtype=np.uint8)[:, None]
    return (b & 3).reshape(-1, 256)


def d_q2_k(b):                          # u8 scale | minimum << 4 for each 16; planes; f16 d, dmin
    s, m = (b[:, :16] & 15).astype(f32), (b[:, :16] >> 4).astype(f32)
    q = _planes(b[:, 16:80]).reshape(-1, 16, 16).astype(f32)
    return (((_half(b[:, 80:82]) * s)[:, :, None] * q) - (_half(b[:, 82:84]) * m)[:, :, None]) \
        .reshape(-1, 256)


def d_q3_k(b):                          # third bits (bit r of byte l: value 32r+l); planes;
    # 12 bytes of scales: nibbles[8], then four of pairs; f16 d
    high = np.stack([b[:, :32] >> r & 1 for r in range(8)], axis=1).reshape(-1, 256)
    q = _planes(b[:, 32:96]).astype(f32) + 4 * high.astype(f32) - 4
    low, top = b[:, 96:104], b[:, 104:108]
    s = np.concatenate([low & 15, low >> 4], axis=1)
    s = s | np.concatenate([top >> i & 3 for i in (0, 2, 4, 6)], axis=1) << 4
    step = _half(b[:, 108:110]) * (s.astype(f32) - 32)
    return (step[:, :, None] * q.reshape(-1, 16, 16)).reshape(-1, 256)


def _trits(b, n):
    """[B][m] -> [B][n][m]: the first n base-3 digits of byte/256."""
    out, x = [], b.astype(np.uint16)
    for _ in range(n):
        x = (x & 255) * 3
        out.append(x >> 8)
    return np.stack(out, axis=1).astype(f32)


def d_tq1_0(b):                         # 32 bytes of five digits, 16 of five, 4 of four; f16 d
    q = [_trits(b[:, at:at + m], n).reshape(len(b), -1) for at, m, n in ((0, 32, 5), (32, 16, 5),
                                                                          (48, 4, 4))]
    return _half(b[:, 52:54]) * (np.concatenate(q, axis=1) - 1)


def d_tq2_0(b):                         # planes; f16 d
    return _half(b[:, 64:66]) * (_planes(b[:, :64]).astype(f32) - 1)


# IQ: the points' coordinates are data of the format and are read from the program's table, where
# they are packed: codes of 2 bits (eight to a point) or nibbles (four).
def _read_grids():
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "..", "..", "src", "kern", "grid.c")) as f:
        text = f.read()
    grids = {}
    for name, body in re.findall(r"kern_grid_(\w+)\[\d+\] = \{([^}]*)\}", text):
        v = np.array([int(x, 16) for x in re.findall("0x[0-9a-f]+", body)])
        bits = 4 if name.startswith("iq3") else 2
        grids[name] = v[:, None] >> np.arange(0, 16, bits) & (1 << bits) - 1
    value = {"iq1": [-1, 0, 1], "iq2_xxs": [8, 25, 43], "iq2_xs": [8, 25, 43], "iq2_s": [8, 25, 43],
             "iq3_xxs": [4, 12, 20, 28, 36, 44, 52, 62], "iq3_s": list(range(1, 16, 2))}
    return {k: np.array(value[k], dtype=f32)[g] for k, g in grids.items()}


GRID = _read_grids()


def _u16(b):
    return np.ascontiguousarray(b).view("<u2").astype(np.int64)


def _u32(b):
    return np.ascontiguousarray(b).view("<u4").astype(np.int64)


def _sign8(s):
    """[...] bytes -> [...][8] of 1 or -1."""
    return (1 - 2 * (s[..., None] >> np.arange(8) & 1)).astype(f32)


def _sign7(s):
    """[...] of seven signs; the eighth makes the number of minuses even."""
    s = s & 127
    parity = sum(s >> i & 1 for i in range(7)) & 1
    return _sign8(s | parity << 7)


def _nib(b):
    """[B][n] -> [B][2n]: low nibble, then high."""
    return np.stack([b & 15, b >> 4], axis=2).reshape(len(b), -1).astype(np.int64)


def _iq(d, scale, points):
    """d [B][1], scale [B][s], points [B][...]: 256 values in s runs."""
    step = d * scale.astype(f32)
    return (step[:, :, None] * points.reshape(len(d), step.shape[1], -1)).reshape(-1, 256)


def d_iq2_xxs(b):                       # f16 d; 8 x (4 point numbers, u32: 4 x 7 signs, scale << 28)
    g = np.ascontiguousarray(b[:, 2:]).reshape(-1, 8, 8)
    at, word = g[:, :, :4].astype(np.int64), _u32(g[:, :, 4:])
    sign = _sign7(word >> np.array([0, 7, 14, 21]))
    return _iq(_half(b[:, :2]), ((word[:, :, 0] >> 28) + 0.5) / 4, GRID["iq2_xxs"][at] * sign)


def d_iq2_xs(b):                        # f16 d; u16[32]: 9 bits of number, 7 signs; scale nibbles
    q = _u16(b[:, 2:66])
    return _iq(_half(b[:, :2]), (_nib(b[:, 66:]) + 0.5) / 4, GRID["iq2_xs"][q & 511] * _sign7(q >> 9))


def d_iq2_s(b):                         # f16 d; numbers[32]; signs[32]; high pairs[8]; scale nibbles
    at = b[:, 2:34].astype(np.int64) | _two_bits(b[:, 66:74]).astype(np.int64) << 8
    sign = _sign8(b[:, 34:66].astype(np.int64))
    return _iq(_half(b[:, :2]), (_nib(b[:, 74:]) + 0.5) / 4, GRID["iq2_s"][at] * sign)


def d_iq3_xxs(b):                       # f16 d; numbers[64]; u32[8] as in IQ2_XXS
    word = _u32(b[:, 66:])
    sign = _sign7(word[:, :, None] >> np.array([0, 7, 14, 21])).reshape(-1, 64, 4)
    return _iq(_half(b[:, :2]), ((word >> 28) + 0.5) / 2,
               GRID["iq3_xxs"][b[:, 2:66].astype(np.int64)] * sign)


def d_iq3_s(b):                         # f16 d; numbers[64]; ninth bits[8]; signs[32]; nibbles[4]
    ninth = np.unpackbits(np.ascontiguousarray(b[:, 66:74]), axis=1, bitorder="little")
    at = b[:, 2:66].astype(np.int64) | ninth.astype(np.int64) << 8
    sign = _sign8(b[:, 74:106].astype(np.int64)).reshape(-1, 64, 4)
    return _iq(_half(b[:, :2]), 1 + 2 * _nib(b[:, 106:]), GRID["iq3_s"][at] * sign)


def d_iq1_s(b):                         # f16 d; numbers[32]; u16[8]: 4 x 3 high bits, scale << 12,
    h = _u16(b[:, 34:])                 # sign of the shift on top
    at = b[:, 2:34].astype(np.int64) | (h[:, :, None] >> np.array([0, 3, 6, 9]) & 7).reshape(-1, 32) << 8
    shift = np.where(h >> 15 & 1, f32(-0.125), f32(0.125)).repeat(4, axis=1)
    return _iq(_half(b[:, :2]), 2 * (h >> 12 & 7) + 1, GRID["iq1"][at] + shift[:, :, None])


def d_iq1_m(b):                         # numbers[32]; nibbles[16]: 3 high bits, sign of the shift;
    s, h = _u16(b[:, 48:]), _nib(b[:, 32:48])       # u16[4]: 4 x 3 bits of scale, a nibble of d
    d = (s >> 12 << np.array([0, 4, 8, 12])).sum(axis=1).astype("<u2").view("<f2").astype(f32)[:, None]
    at = b[:, :32].astype(np.int64) | (h & 7) << 8
    shift = np.where(h & 8, f32(-0.125), f32(0.125))
    scale = (s[:, :, None] >> np.array([0, 3, 6, 9]) & 7).reshape(-1, 16)
    return _iq(d, 2 * scale + 1, GRID["iq1"][at] + shift[:, :, None])


IQ4_VALUES = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113],
                      dtype=f32)


def d_iq4_nl(b):                        # f16 d; nibbles, numbers in the table
    return _half(b[:, :2]) * IQ4_VALUES[_unnibbles(b[:, 2:])]


def d_iq4_xs(b):                        # f16 d; u16 of scales' high pairs; nibbles[4]; nibbles[128]
    s = _nib(b[:, 4:8]) | (_u16(b[:, 2:4]) >> np.arange(0, 16, 2) & 3) << 4
    q = b[:, 8:].reshape(-1, 16)
    return _iq(_half(b[:, :2]), s - 32, IQ4_VALUES[_unnibbles(q)].reshape(-1, 256))


CODEC = {
    "F32": (lambda x: np.ascontiguousarray(x, "<f4").view(np.uint8).reshape(-1, 4),
            lambda b: np.ascontiguousarray(b).view("<f4")),
    "F16": (q_f16, d_f16), "BF16": (q_bf16, d_bf16), "Q8_0": (q_q8_0, d_q8_0),
    "Q4_0": (q_q4_0, d_q4_0), "Q4_1": (q_q4_1, d_q4_1), "Q5_0": (q_q5_0, d_q5_0),
    "Q5_1": (q_q5_1, d_q5_1), "Q4_K": (q_q4_k, d_q4_k), "Q5_K": (q_q5_k, d_q5_k),
    "Q6_K": (q_q6_k, d_q6_k), "MXFP4": (q_mxfp4, d_mxfp4),
    "NVFP4": (None, d_nvfp4), "Q1_0": (None, d_q1_0), "Q2_0": (None, d_q2_0),
    "Q2_K": (None, d_q2_k), "Q3_K": (None, d_q3_k), "IQ2_XXS": (None, d_iq2_xxs),
    "IQ2_XS": (None, d_iq2_xs), "IQ2_S": (None, d_iq2_s), "IQ3_XXS": (None, d_iq3_xxs),
    "IQ3_S": (None, d_iq3_s), "IQ1_S": (None, d_iq1_s), "IQ1_M": (None, d_iq1_m),
    "IQ4_NL": (None, d_iq4_nl), "IQ4_XS": (None, d_iq4_xs), "TQ1_0": (None, d_tq1_0),
    "TQ2_0": (None, d_tq2_0),
}


def quantise(x, kind):
    """Float array, rows of whole blocks -> bytes."""
    x = np.asarray(x)
    if kind in INT_DTYPE:
        return np.ascontiguousarray(x, dtype=INT_DTYPE[kind]).tobytes()
    per = TYPES[kind][1]
    if x.shape and x.shape[-1] % per:
        raise ValueError(f"rows of {x.shape[-1]} are not whole blocks of {kind}")
    out = CODEC[kind][0](np.ascontiguousarray(x, dtype=f32).reshape(-1, per))
    assert out.shape[1] == TYPES[kind][2], (kind, out.shape)
    return out.tobytes()


def dequantise(data, kind, shape=None):
    """Bytes -> float32 array (or the integers) of the given NumPy shape."""
    if kind in INT_DTYPE:
        x = np.frombuffer(data, dtype=INT_DTYPE[kind])
    else:
        blocks = np.frombuffer(data, dtype=np.uint8).reshape(-1, TYPES[kind][2])
        x = np.ascontiguousarray(CODEC[kind][1](blocks)).reshape(-1)
    return x if shape is None else x.reshape(shape)


# ---------------------------------------------------------------- writing
def _string(s):
    b = s if isinstance(s, bytes) else s.encode("utf-8")
    return struct.pack("<Q", len(b)) + b


def _scalar(kind, v):
    return _string(v) if kind == "str" else np.array(v).astype(SCALAR[kind]).tobytes()


def _kind_of(v):
    if isinstance(v, Typed):
        return v.kind, v.value
    if isinstance(v, (bool, np.bool_)):
        return "bool", v
    if isinstance(v, (int, np.integer)):
        return "u32", v
    if isinstance(v, (float, np.floating)):
        return "f32", v
    if isinstance(v, (str, bytes)):
        return "str", v
    v = v.tolist() if isinstance(v, np.ndarray) else list(v)
    first = v[0] if v else 0
    item = ("bool" if isinstance(first, bool) else "i32" if isinstance(first, int)
            else "f32" if isinstance(first, float) else "str")
    return "arr:" + item, v


def encode_value(v):
    """u32 type and the value's bytes."""
    kind, v = _kind_of(v)
    if not kind.startswith("arr:"):
        return struct.pack("<I", KV_ID[kind]) + _scalar(kind, v)
    item = kind[4:]
    body = b"".join(map(_string, v)) if item == "str" else np.array(v).astype(SCALAR[item]).tobytes()
    return struct.pack("<IIQ", KV_ID["arr"], KV_ID[item], len(v)) + body


def _pad(n, align):
    return b"\0" * (-n % align)


def write_gguf(path, kv, tensors):
    """Write a GGUF v3 file; see the top of this file. A tensor's array may also be ready bytes:
    (name, bytes, type, NumPy shape)."""
    kv = list(kv.items()) if isinstance(kv, dict) else list(kv)
    align = next((v.value if isinstance(v, Typed) else v for k, v in kv if k == "general.alignment"),
                 ALIGNMENT)
    head = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(kv))]
    head += [_string(k) + encode_value(v) for k, v in kv]
    blobs, offset = [], 0
    for name, data, kind, *shape in tensors:
        shape = shape[0] if shape else np.shape(data)
        if not isinstance(data, bytes):
            data = quantise(data, kind)
        assert len(data) == type_size(kind, int(np.prod(shape))), name
        head.append(_string(name) + struct.pack("<I", len(shape))
                    + struct.pack(f"<{len(shape)}Q", *reversed(shape))
                    + struct.pack("<IQ", TYPES[kind][0], offset))
        blobs.append(data + _pad(len(data), align))
        offset += len(blobs[-1])
    head = b"".join(head)
    with open(path, "wb") as f:
        f.write(head + _pad(len(head), align))
        for b in blobs:
            f.write(b)


# ---------------------------------------------------------------- reading
class Tensor:
    """Where a tensor lies: dims fastest first as in the file, offset from the start of the file."""

    def __init__(self, name, dims, kind, offset):
        self.name, self.dims, self.kind, self.offset = name, dims, kind, offset
        self.nbytes = type_size(kind, int(np.prod(dims, dtype=np.int64)))


class Gguf:
    def __init__(self, path):
        self.data = np.memmap(path, dtype=np.uint8, mode="r")
        self.pos = 0
        magic, self.version, n_tensors, n_kv = struct.unpack("<4sIQQ", self._take(24))
        if magic != b"GGUF" or self.version != 3:
            raise ValueError(f"{path}: magic {magic!r}, version {self.version}")
        self.kv, self.kinds, self.tensors = {}, {}, {}
        for _ in range(n_kv):
            key = self._str().decode("utf-8")
            self.kinds[key], self.kv[key] = self._value(self._int("<I"))
        align = self.kv.get("general.alignment", ALIGNMENT)
        infos = []
        for _ in range(n_tensors):
            name = self._str().decode("utf-8")
            dims = tuple(self._int("<Q") for _ in range(self._int("<I")))
            infos.append((name, dims, TYPE_NAME[self._int("<I")], self._int("<Q")))
        start = self.pos + -self.pos % align
        for name, dims, kind, offset in infos:
            t = Tensor(name, dims, kind, start + offset)
            if offset % align or t.offset + t.nbytes > len(self.data):
                raise ValueError(f"{path}: {name} at {t.offset}+{t.nbytes}, file has {len(self.data)}")
            self.tensors[name] = t

    def _take(self, n):
        if self.pos + n > len(self.data):
            raise ValueError(f"file ends at {len(self.data)}, wanted {n} bytes at {self.pos}")
        self.pos += n
        return self.data[self.pos - n:self.pos].tobytes()

    def _int(self, fmt):
        return struct.unpack(fmt, self._take(struct.calcsize(fmt)))[0]

    def _str(self):
        return self._take(self._int("<Q"))

    def _text(self):
        return self._str().decode("utf-8", "surrogateescape")

    def _value(self, kind_id):
        kind = KV_TYPES[kind_id]
        if kind == "str":
            return kind, self._text()
        if kind != "arr":
            v = np.frombuffer(self._take(np.dtype(SCALAR[kind]).itemsize), SCALAR[kind])[0]
            return kind, bool(v) if kind == "bool" else v.item()
        item, n = KV_TYPES[self._int("<I")], self._int("<Q")
        if item == "str":
            return "arr:str", [self._text() for _ in range(n)]
        if item == "arr":
            return "arr:arr", [self._value(KV_ID["arr"])[1] for _ in range(n)]
        return "arr:" + item, np.frombuffer(self._take(n * np.dtype(SCALAR[item]).itemsize), SCALAR[item])

    def raw(self, name):
        t = self.tensors[name]
        return self.data[t.offset:t.offset + t.nbytes].tobytes()

    def tensor(self, name):
        """Dequantised float32 array, NumPy order (slowest dimension first)."""
        t = self.tensors[name]
        return dequantise(self.raw(name), t.kind, tuple(reversed(t.dims)))


def read_gguf(path):
    return Gguf(path)
