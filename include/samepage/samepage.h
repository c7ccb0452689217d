/* samepage/samepage.h - all of libsamepage, and the rules that hold everywhere in it.
 *
 *     region ─── device ─── model ─── session        a host program can stop here
 *        └────────── engine ─── module ─── guest     and a WebAssembly guest does the same through its imports
 *                                            └────── snapshot ─── store      what is saved, restored and shared of it
 *
 * Ownership. create and open give the caller a thing that destroy and close take back; both accept NULL. Everything
 * else borrows, until the lender is destroyed or the contract says sooner. On failure an out-pointer is NULL.
 *
 * Order. What is built on a thing goes before it: guests before their engine, device and models; sessions before their
 * model and device; models before the devices that they are loaded on; links before their region and device. The
 * library asserts it.
 *
 * Errors. See status.h. Every function that can fail returns an sp_status and can fill an sp_error; nothing is printed,
 * nothing exits, and a failed call has changed nothing unless its contract says what.
 *
 * Threads. Different objects may be used by different threads at once. One object is used by one thread at a time,
 * except where a header says more. There is no global state but processor features, found once.
 */
#ifndef SAMEPAGE_SAMEPAGE_H
#define SAMEPAGE_SAMEPAGE_H

#include "samepage/actor.h"
#include "samepage/device.h"
#include "samepage/dtype.h"
#include "samepage/guest.h"
#include "samepage/model.h"
#include "samepage/quantise.h"
#include "samepage/region.h"
#include "samepage/sampler.h"
#include "samepage/session.h"
#include "samepage/snapshot.h"
#include "samepage/status.h"
#include "samepage/store.h"
#include "samepage/tokenizer.h"
#include "samepage/version.h"

#endif
