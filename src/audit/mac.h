/*
 * mac.h - Poly1305 (RFC 8439, section 2.5) of long messages, for digests of logits: every token of
 * a vocabulary of 50,000 has 200 KB of them.
 *
 * With AVX2 four blocks are worked on at a time, about twice as fast as libsodium's, which is used
 * elsewhere. Both give the same bytes, and a test compares them.
 */
#ifndef AUDIT_MAC_H
#define AUDIT_MAC_H

#include <stddef.h>

#define MAC_KEY 32
#define MAC_BYTES 16

void mac_of(const void *p, size_t n, const unsigned char key[MAC_KEY],
	unsigned char tag[MAC_BYTES]);

/* 0 switches AVX2 off (tests compare the two); returns whether it is used now. */
int mac_fast(int allow);

#endif
