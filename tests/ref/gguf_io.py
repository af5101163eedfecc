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
    "MXFP4": (39, 32, 17),
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


CODEC = {
    "F32": (lambda x: np.ascontiguousarray(x, "<f4").view(np.uint8).reshape(-1, 4),
            lambda b: np.ascontiguousarray(b).view("<f4")),
    "F16": (q_f16, d_f16), "BF16": (q_bf16, d_bf16), "Q8_0": (q_q8_0, d_q8_0),
    "Q4_0": (q_q4_0, d_q4_0), "Q4_1": (q_q4_1, d_q4_1), "Q5_0": (q_q5_0, d_q5_0),
    "Q5_1": (q_q5_1, d_q5_1), "Q4_K": (q_q4_k, d_q4_k), "Q5_K": (q_q5_k, d_q5_k),
    "Q6_K": (q_q6_k, d_q6_k), "MXFP4": (q_mxfp4, d_mxfp4),
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
