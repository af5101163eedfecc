/* clock.h - the two clocks that the program uses. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

int64_t clock_wall(void); /* ns since 1970, UTC */
int64_t clock_mono(void); /* ns, never goes back */

#endif
