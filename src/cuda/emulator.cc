// Fibres over ucontext: makecontext gives each its stack once, setjmp and longjmp switch from then
// on (swapcontext would make a system call each time).
#include "cuda/emulator.h"

#include <ucontext.h>
#include <csetjmp>
#include <cstring>
#include <deque>
#include <memory>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace dropgemm::cuda::emulator {
namespace {

constexpr std::int32_t kLanes = 32;
constexpr std::int32_t kMaxThreads = 1024;
constexpr std::size_t kStackBytes = 256 << 10;
constexpr std::size_t kColour = 17 * 64;
constexpr std::size_t kSharedBytes = 227 << 10;  // what a block of sm_90 may have
constexpr std::size_t kSharedAlignment = 1024;
constexpr int kPoison = 0xFF;  // a NaN in every floating-point type

struct Copy {
  void* to;
  const void* from;
  std::size_t bytes, count;
};
using CopyGroup = std::vector<Copy>;

// Threads that wait until all of them have come. A thread that has returned waits for nobody.
struct Barrier {
  std::int32_t members = 0;
  std::int32_t arrived = 0;
  std::int64_t generation = 0;

  void open_if_full() {
    if (arrived == 0 || arrived < members) return;
    arrived = 0;
    ++generation;
  }
};

struct Warp {
  Barrier barrier;
  alignas(16) char slots[2][kLanes * kExchangeBytes];
};

// A stack that can be left and come back to, as AddressSanitizer wants to be told.
struct Stack {
  const void* bottom = nullptr;
  std::size_t bytes = 0;
  void* frames = nullptr;  // the sanitizer's, while others run

#if defined(__SANITIZE_ADDRESS__)
  void leave_for(const Stack& next) {
    __sanitizer_start_switch_fiber(&frames, next.bottom, next.bytes);
  }
  void come_from(Stack* last) const {
    __sanitizer_finish_switch_fiber(frames, &last->bottom, &last->bytes);
  }
#else
  void leave_for(const Stack& /*next*/) {}
  void come_from(Stack* /*last*/) const {}
#endif
};

struct Fibre {
  std::unique_ptr<char[]> memory;
  Stack stack;
  ucontext_t first;  // how it begins
  jmp_buf at;        // where it goes on
  bool started = false;
  bool running = false;  // has not returned from the kernel
  // What it waits for: the barrier to leave this generation, or done(context). Null: nothing.
  const Barrier* barrier = nullptr;
  std::int64_t generation = 0;
  bool (*done)(const void*) = nullptr;
  const void* done_context = nullptr;
  std::int32_t thread = 0;
  CopyGroup copies;  // not committed yet
  std::deque<CopyGroup> groups;
};

struct Machine {
  Fibre fibres[kMaxThreads];
  Warp warps[kMaxThreads / kLanes];
  Barrier block;
  Fibre* current = nullptr;
  jmp_buf scheduler;
  Stack scheduler_stack;
  std::vector<char> shared = std::vector<char>(kSharedBytes + kSharedAlignment);
  bool moved = false;  // something happened since the scheduler last looked
  Body body = nullptr;
  Idle idle = nullptr;
  const void* context = nullptr;
  std::size_t shared_bytes = 0;
  std::int32_t block_index = 0, blocks = 0;

  char* shared_begin() {
    const auto address = reinterpret_cast<std::uintptr_t>(shared.data());
    return shared.data() + (kSharedAlignment - address % kSharedAlignment) % kSharedAlignment;
  }
};

Machine& machine() {
  thread_local std::unique_ptr<Machine> own;
  thread_local Machine* here = nullptr;  // without the guard of what has a destructor
  if (here == nullptr) {
    own = std::make_unique<Machine>();
    here = own.get();
  }
  return *here;
}

Warp& warp_of(Machine* m) { return m->warps[m->current->thread / kLanes]; }

// Back to the scheduler, until it is this fibre's turn again.
void yield(Machine* m) {
  Fibre* const self = m->current;
  self->stack.leave_for(m->scheduler_stack);
  if (_setjmp(self->at) == 0) _longjmp(m->scheduler, 1);
  self->stack.come_from(&m->scheduler_stack);
}

void wait(Machine* m, Barrier* barrier) {
  const std::int64_t generation = barrier->generation;
  ++barrier->arrived;
  m->moved = true;
  barrier->open_if_full();
  if (barrier->generation != generation) return;
  m->current->barrier = barrier;
  m->current->generation = generation;
  yield(m);
}

void perform(const CopyGroup& group) {
  for (const Copy& copy : group) {
    const auto addresses =
        reinterpret_cast<std::uintptr_t>(copy.to) | reinterpret_cast<std::uintptr_t>(copy.from);
    if (addresses % copy.bytes != 0) {
      std::memset(copy.to, kPoison, copy.bytes);
      continue;
    }
    std::memcpy(copy.to, copy.from, copy.count);
    std::memset(static_cast<char*>(copy.to) + copy.count, 0, copy.bytes - copy.count);
  }
}

// What a fibre does all its life: one thread of one block after another.
void live() {
  Machine* const m = &machine();
  m->current->stack.come_from(&m->scheduler_stack);
  for (;;) {
    Fibre* const self = m->current;
    // There is a body before there is a fibre. NOLINTNEXTLINE(clang-analyzer-core.CallAndMessage)
    m->body(m->context, m->block_index, m->blocks, self->thread, m->shared_begin());
    self->running = false;
    m->moved = true;
    for (Barrier* barrier : {&m->block, &warp_of(m).barrier}) {
      --barrier->members;
      barrier->open_if_full();
    }
    yield(m);
  }
}

void start(Fibre* fibre) {
  fibre->memory = std::make_unique<char[]>(kStackBytes);
  // Stacks that began at the same offset would share the same few sets of a cache.
  fibre->stack = {fibre->memory.get(),
                  kStackBytes - kColour * static_cast<std::size_t>(fibre->thread % 64), nullptr};
  getcontext(&fibre->first);
  fibre->first.uc_stack.ss_sp = fibre->memory.get();
  fibre->first.uc_stack.ss_size = fibre->stack.bytes;
  fibre->first.uc_link = nullptr;
  makecontext(&fibre->first, live, 0);
  fibre->started = true;
}

void resume(Machine* m, Fibre* fibre) {
  m->current = fibre;
  const bool starts = !fibre->started;
  if (starts) start(fibre);
  if (_setjmp(m->scheduler) != 0) {
    Stack ignored;
    m->scheduler_stack.come_from(&ignored);
    return;
  }
  m->scheduler_stack.leave_for(fibre->stack);
  if (!starts) _longjmp(fibre->at, 1);
  setcontext(&fibre->first);
}

void begin_block(Machine* m, std::int32_t threads) {
  m->block = {threads, 0, 0};
  for (std::int32_t w = 0; w * kLanes < threads; ++w) {
    m->warps[w].barrier = {threads - w * kLanes < kLanes ? threads - w * kLanes : kLanes, 0, 0};
  }
  for (std::int32_t t = 0; t < threads; ++t) {
    Fibre& fibre = m->fibres[t];
    fibre.thread = t;
    fibre.running = true;
    fibre.barrier = nullptr;
    fibre.done = nullptr;
    fibre.copies.clear();
    fibre.groups.clear();
  }
  std::memset(m->shared_begin(), kPoison, m->shared_bytes);
}

bool waits(Fibre* fibre) {
  if (fibre->done != nullptr) {
    if (!fibre->done(fibre->done_context)) return true;
    fibre->done = nullptr;
  }
  if (fibre->barrier == nullptr) return false;
  if (fibre->barrier->generation == fibre->generation) return true;
  fibre->barrier = nullptr;
  return false;
}

// False where threads wait for one another for ever.
bool run_block(Machine* m, std::int32_t threads) {
  begin_block(m, threads);
  for (bool upwards = true;; upwards = !upwards) {
    bool left = false;
    m->moved = false;  // set by whoever is resumed
    for (std::int32_t i = 0; i < threads; ++i) {
      Fibre* const fibre = &m->fibres[upwards ? i : threads - 1 - i];
      if (!fibre->running) continue;
      if (!waits(fibre)) resume(m, fibre);
      left = left || fibre->running;
    }
    if (!left) return true;
    if (!m->moved && (m->idle == nullptr || !m->idle(m->context))) return false;
  }
}

}  // namespace

Status run(std::int32_t blocks, std::int32_t threads, std::size_t shared_bytes, Body body,
           const void* context, Idle idle) {
  if (threads < 1 || threads > kMaxThreads || shared_bytes > kSharedBytes) {
    return {StatusCode::kBackendError, "emulator: no block has " + std::to_string(threads) +
                                           " threads and " + std::to_string(shared_bytes) +
                                           " bytes of shared memory"};
  }
  Machine* const m = &machine();
  m->body = body;
  m->idle = idle;
  m->context = context;
  m->blocks = blocks;
  m->shared_bytes = shared_bytes;
  for (m->block_index = 0; m->block_index < blocks; ++m->block_index) {
    if (run_block(m, threads)) continue;
    for (Fibre& fibre : m->fibres) fibre.started = false;  // their stacks are given up half way
    return {StatusCode::kBackendError, "emulator: threads of block " +
                                           std::to_string(m->block_index) +
                                           " wait at barriers that the others do not reach"};
  }
  return {};
}

void sync_block() {
  Machine* const m = &machine();
  wait(m, &m->block);
}

void sync_warp() {
  Machine* const m = &machine();
  wait(m, &warp_of(m).barrier);
}

void wait_until(bool (*done)(const void* context), const void* context) {
  if (done(context)) return;
  Machine* const m = &machine();
  m->current->done = done;
  m->current->done_context = context;
  m->moved = true;
  yield(m);
}

void copy_async(void* to, const void* from, std::size_t bytes, std::size_t count) {
  machine().current->copies.push_back({to, from, bytes, count});
}

void commit_copies() {
  Fibre* const self = machine().current;
  self->groups.push_back(std::move(self->copies));
  self->copies.clear();
}

void wait_for_copies(std::int32_t pending) {
  Fibre* const self = machine().current;
  while (static_cast<std::int32_t>(self->groups.size()) > pending) {
    perform(self->groups.front());
    self->groups.pop_front();
  }
}

// Two sets by turns: a lane that is ahead writes to the other one, and waits at the next barrier
// until all have read this one.
void* exchange_slots() {
  Warp& warp = warp_of(&machine());
  return warp.slots[warp.barrier.generation % 2];
}

bool is_last_of_warp() {
  const Barrier& barrier = warp_of(&machine()).barrier;
  return barrier.arrived + 1 == barrier.members;
}

std::int32_t lane() { return machine().current->thread % kLanes; }
std::int32_t thread() { return machine().current->thread; }

}  // namespace dropgemm::cuda::emulator
