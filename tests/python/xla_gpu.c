// XLA's CPU in the part of its GPU: a handler that is put into a slot is called with an API that has
// a stream and scratch memory to give. test_jax_emulated.py compiles this against jaxlib's headers
// and registers slots in the handlers' place.
#include <stdlib.h>
#include <string.h>

#include "xla/ffi/api/c_api.h"

enum { kSlots = 8 };

static XLA_FFI_Handler* handlers[kSlots];
static int calls[kSlots];
static unsigned traits[kSlots];
static long scratch_bytes, scratch_held;
static int stream;  // its address is the stream's handle

static XLA_FFI_Error* get_stream(XLA_FFI_Stream_Get_Args* args) {
  args->stream = &stream;
  return NULL;
}

// As memory of a device is: full of what somebody else has left.
static XLA_FFI_Error* allocate(XLA_FFI_DeviceMemory_Allocate_Args* args) {
  const size_t rounded = (args->size / 256 + 1) * 256;
  args->data = aligned_alloc(256, rounded);
  memset(args->data, 0xFF, rounded);
  __atomic_fetch_add(&scratch_bytes, (long)args->size, __ATOMIC_RELAXED);
  __atomic_fetch_add(&scratch_held, 1, __ATOMIC_RELAXED);
  return NULL;
}

static XLA_FFI_Error* release(XLA_FFI_DeviceMemory_Free_Args* args) {
  free(args->data);
  __atomic_fetch_sub(&scratch_held, 1, __ATOMIC_RELAXED);
  return NULL;
}

static XLA_FFI_Error* call(int slot, XLA_FFI_CallFrame* frame) {
  if (frame->extension_start != NULL &&
      frame->extension_start->type == XLA_FFI_Extension_Metadata) {  // a question about the handler
    XLA_FFI_Error* const error = handlers[slot](frame);
    traits[slot] = ((XLA_FFI_Metadata_Extension*)frame->extension_start)->metadata->traits;
    return error;
  }
  XLA_FFI_Api api = *frame->api;
  api.XLA_FFI_Stream_Get = get_stream;
  api.XLA_FFI_DeviceMemory_Allocate = allocate;
  api.XLA_FFI_DeviceMemory_Free = release;
  XLA_FFI_CallFrame changed = *frame;
  changed.api = &api;
  __atomic_fetch_add(&calls[slot], 1, __ATOMIC_RELAXED);
  return handlers[slot](&changed);
}

#define SLOT(n) \
  XLA_FFI_Error* slot_##n(XLA_FFI_CallFrame* frame) { return call(n, frame); }
SLOT(0) SLOT(1) SLOT(2) SLOT(3) SLOT(4) SLOT(5) SLOT(6) SLOT(7)

static XLA_FFI_Handler* const slots[kSlots] = {slot_0, slot_1, slot_2, slot_3,
                                               slot_4, slot_5, slot_6, slot_7};

// What to register in a handler's place.
XLA_FFI_Handler* put(int slot, XLA_FFI_Handler* handler) {
  handlers[slot] = handler;
  return slots[slot];
}

int called(int slot) { return calls[slot]; }
// Bytes ever asked for, or -1 while some are held.
long scratch(void) { return scratch_held == 0 ? scratch_bytes : -1; }

// The traits that a handler told XLA of.
unsigned traits_of(int slot) { return traits[slot]; }
