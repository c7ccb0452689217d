/* samepage/export.h - what the shared library shows to the outside. */
#ifndef SAMEPAGE_EXPORT_H
#define SAMEPAGE_EXPORT_H

#if defined(__GNUC__)
#define SP_EXPORT __attribute__((visibility("default")))
#else
#define SP_EXPORT
#endif

#endif
