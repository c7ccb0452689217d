/* guest/imports.c - the table of imports. The functions behind it are in imports_*.c, one file for each group. */
#include "guest/imports_abi.h"

#include "guest/imports_glue.inc"
