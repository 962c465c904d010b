/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that this code base does without. Included last by every .c file (checked by make tidy). */
#ifndef FIRSTLIGHT_BASE_BANNED_H
#define FIRSTLIGHT_BASE_BANNED_H

#undef strcpy
#undef strcat
#undef strncpy
#undef strncat
#undef sprintf
#undef vsprintf
#undef gets
#undef strtok
#undef alloca
#pragma GCC poison strcpy strcat strncpy strncat sprintf vsprintf gets strtok atoi atol system popen
#pragma GCC poison mktemp tmpnam gmtime localtime asctime ctime sleep usleep

#endif
