/*
 * qtype.h - the tensor element types of GGUF: id, name, block geometry. One table (qtype.c).
 *
 * gguf uses it to bound tensor sizes, kern to attach kernels, inspect to print names. A type that
 * is listed here but has no kernel can be inspected, not run.
 */
#ifndef BASE_QTYPE_H
#define BASE_QTYPE_H

#include <stddef.h>
#include <stdint.h>

enum qtype { /* values are those of the file format */
	QT_F32 = 0, QT_F16 = 1, QT_Q4_0 = 2, QT_Q4_1 = 3, QT_Q5_0 = 6, QT_Q5_1 = 7, QT_Q8_0 = 8,
	QT_Q8_1 = 9, QT_Q2_K = 10, QT_Q3_K = 11, QT_Q4_K = 12, QT_Q5_K = 13, QT_Q6_K = 14,
	QT_Q8_K = 15, QT_IQ2_XXS = 16, QT_IQ2_XS = 17, QT_IQ3_XXS = 18, QT_IQ1_S = 19,
	QT_IQ4_NL = 20, QT_IQ3_S = 21, QT_IQ2_S = 22, QT_IQ4_XS = 23, QT_I8 = 24, QT_I16 = 25,
	QT_I32 = 26, QT_I64 = 27, QT_F64 = 28, QT_IQ1_M = 29, QT_BF16 = 30, QT_TQ1_0 = 34,
	QT_TQ2_0 = 35, QT_MXFP4 = 39, QT_NVFP4 = 40, QT_Q1_0 = 41, QT_Q2_0 = 42, QT_MAX = 43
};

struct qtype_info {
	const char *name;
	uint16_t block;  /* elements of a block */
	uint16_t bytes;  /* bytes of a block */
};

/* NULL for ids that are unknown or were removed from the format. */
const struct qtype_info *qtype_info(uint32_t type);

/* Bytes of a row of n elements; 0 if n is not a multiple of the block or the type is unknown. */
size_t qtype_row_bytes(uint32_t type, size_t n);

#endif
