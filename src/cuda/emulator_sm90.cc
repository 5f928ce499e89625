// Clusters of Hopper's blocks as fibres: their shared memory, barriers and copies.
#include "cuda/emulator_sm90.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <memory>
#include <string>

#include "cuda/api.h"
#include "cuda/kernel_sm90.cuh"

namespace dropgemm::cuda {
namespace sm90 {
namespace {

constexpr std::uint32_t kSetUp = 0x5EB0A7D1;
// Of a block; of the first group, the two warps that do something.
constexpr std::int32_t kFibres = 2 * kWarp + kSm90Group * kSm90Consumers;
constexpr std::size_t kAlignment = 1024;
constexpr char kPoison = '\xFF';

// Threads that wait for one another.
struct Meeting {
  std::int32_t members = 0, arrived = 0;
  std::int64_t generation = 0;

  void meet() {
    struct Left {
      const Meeting* meeting;
      std::int64_t generation;
    };
    const Left left = {this, generation};
    if (++arrived == members) arrived = 0, ++generation;
    emulator::wait_until(
        [](const void* context) {
          const auto* const l = static_cast<const Left*>(context);
          return l->meeting->generation != l->generation;
        },
        &left);
  }
};

// Shared memory of unknown contents, at an address that swizzles begin at.
struct Memory {
  explicit Memory(std::size_t bytes)
      : all(bytes + kAlignment, kPoison),
        begin(all.data() +
              (kAlignment - reinterpret_cast<std::uintptr_t>(all.data()) % kAlignment)) {}
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  std::vector<char> all;
  char* begin;
};

// A copy on its way. Offsets are in bytes of shared memory.
struct Copy {
  api::BoxCopies array;
  Box box;
  std::int64_t offset = 0, full = 0;
  std::uint16_t receivers = 0;
  bool adds = false;
};

struct Thread {
  struct Range {
    std::int64_t offset;
    std::size_t bytes;
  };
  std::vector<Range> written;  // and not fenced
  std::vector<Copy> open;
  std::deque<std::vector<Copy>> groups;
};

struct BlockState {
  explicit BlockState(std::size_t bytes) : memory(bytes), seen(bytes), threads(kFibres) {
    for (Meeting& group : groups) group.members = kSm90Group;
  }
  [[nodiscard]] std::int64_t offset_of(const void* at) const {
    return static_cast<const char*>(at) - memory.begin;
  }
  Memory memory, seen;  // as threads have it, and as the copy engine does
  std::vector<Thread> threads;
  Meeting groups[kSm90Consumers];
  std::vector<float> sums[kSm90Consumers];
  std::int32_t left = 0;  // threads that have returned
};

struct Cluster {
  Cluster(std::int32_t blocks_, std::size_t bytes) {
    for (std::int32_t i = 0; i < blocks_; ++i) {
      blocks.push_back(std::make_unique<BlockState>(bytes));
    }
    start.members = blocks_ * kFibres;
  }
  void fail(const std::string& text) {
    if (failure.empty()) failure = "emulator: " + text;
  }
  std::vector<std::unique_ptr<BlockState>> blocks;
  std::deque<Copy> loads;  // asked for, not here yet
  Meeting start;
  unsigned turn = 0;
  std::string failure;
};

thread_local Cluster* cluster = nullptr;

std::int32_t own_index() { return emulator::thread() / kFibres; }
BlockState& own() { return *cluster->blocks[static_cast<std::size_t>(own_index())]; }
Thread& own_thread() {
  return own().threads[static_cast<std::size_t>(emulator::thread() % kFibres)];
}

// Calls copy(byte of shared memory, element of the array or null outside) for each of a box.
template <class Use>
void each(const Copy& copy, const Use& use) {
  const api::BoxCopies& array = copy.array;
  const std::int64_t size = array.element == api::BoxElement::kWord16 ? 2 : 4;
  const std::int64_t units = array.swizzle_bytes / 16 - 1;
  for (std::uint32_t i = 0; i < array.box_rows * array.box_contiguous; ++i) {
    const std::int64_t byte = copy.offset + std::int64_t{i} * size;
    const std::int64_t row = copy.box.row + std::int64_t{i / array.box_contiguous};
    const std::int64_t at = copy.box.contiguous + std::int64_t{i % array.box_contiguous};
    const bool inside = row >= 0 && at >= 0 && row < static_cast<std::int64_t>(array.rows) &&
                        at < static_cast<std::int64_t>(array.contiguous);
    char* const begin = static_cast<char*>(const_cast<void*>(array.data));
    char* const element =
        inside ? begin + row * static_cast<std::int64_t>(array.row_bytes) + at * size : nullptr;
    use(byte ^ (byte >> 7 & units) << 4, element, static_cast<std::size_t>(size));
  }
}

// tf32 keeps 10 bits after the point.
void round(char* place) {
  std::uint32_t word;
  std::memcpy(&word, place, sizeof word);
  if ((word & 0x7F800000U) == 0x7F800000U) return;
  word = (word + 0x1000U) & ~0x1FFFU;
  std::memcpy(place, &word, sizeof word);
}

void check(const Barrier* barrier) {
  if (barrier->is_set_up != kSetUp) cluster->fail("a barrier is used before it is set up");
}

void open_if_full(Barrier* barrier) {
  if (barrier->missing < 0) cluster->fail("more threads arrive than a barrier has");
  if (barrier->missing != 0 || barrier->bytes != 0) return;
  barrier->missing = barrier->members;
  barrier->phase ^= 1;
}

// What other blocks do to one's memory or barriers.
BlockState& reach(std::int32_t block) {
  BlockState& other = *cluster->blocks[static_cast<std::size_t>(block)];
  if (other.left == kFibres) cluster->fail("a block is reached that has ended");
  return other;
}

void bring(const Copy& copy) {
  for (std::size_t i = 0; i < cluster->blocks.size(); ++i) {
    if ((copy.receivers >> i & 1) == 0) continue;
    BlockState& block = reach(static_cast<std::int32_t>(i));
    std::int64_t bytes = 0;
    each(copy, [&](std::int64_t byte, const char* element, std::size_t size) {
      char* const place = block.memory.begin + byte;
      std::memset(place, 0, size);
      if (element != nullptr) std::memcpy(place, element, size);
      if (copy.array.element == api::BoxElement::kTf32) round(place);
      std::memcpy(block.seen.begin + byte, place, size);
      bytes += static_cast<std::int64_t>(size);
    });
    auto* const full = reinterpret_cast<Barrier*>(block.memory.begin + copy.full);
    check(full);
    full->bytes -= bytes;
    open_if_full(full);
  }
}

void take_away(const Copy& copy) {
  each(copy, [&](std::int64_t byte, char* element, std::size_t size) {
    if (element == nullptr) return;
    const char* const from = own().seen.begin + byte;
    if (!copy.adds) {
      std::memcpy(element, from, size);
      return;
    }
    float sum, more;
    std::memcpy(&sum, element, sizeof sum);
    std::memcpy(&more, from, sizeof more);
    sum += more;
    std::memcpy(element, &sum, sizeof sum);
  });
}

Copy copy_of(const TensorMap& map, const void* shared, const Box& box) {
  Copy copy;
  std::memcpy(&copy.array, map.words, sizeof copy.array);
  copy.box = box;
  copy.offset = own().offset_of(shared);
  if (copy.offset % 128 != 0) cluster->fail("a box lies askew in shared memory");
  return copy;
}

// The last to be asked for or the first, by turns.
bool bring_one(const void* /*context*/) {
  if (cluster->loads.empty()) return false;
  const bool last = cluster->turn++ % 2 == 0;
  const Copy copy = last ? cluster->loads.back() : cluster->loads.front();
  if (last) cluster->loads.pop_back();
  if (!last) cluster->loads.pop_front();
  bring(copy);
  return true;
}

void send(const TensorMap& map, const void* from, const Box& box, bool adds) {
  Copy copy = copy_of(map, from, box);
  copy.adds = adds;
  own_thread().open.push_back(copy);
}

}  // namespace

Fault& planted_fault() {
  static Fault fault = Fault::kNone;
  return fault;
}

void set_up(Barrier* barrier, std::int32_t members) { *barrier = {kSetUp, members, members, 0, 0}; }

void arrive(Barrier* barrier) {
  check(barrier);
  --barrier->missing;
  open_if_full(barrier);
}

void arrive_at(std::int32_t block, Barrier* barrier) {
  if (planted_fault() == Fault::kPeerRelease && block != own_index()) return;
  const std::int64_t offset = own().offset_of(barrier);
  arrive(reinterpret_cast<Barrier*>(reach(block).memory.begin + offset));
}

void expect(Barrier* barrier, std::int64_t bytes) {
  barrier->bytes += bytes;
  arrive(barrier);
}

void wait_for(const Barrier* barrier, std::uint32_t phase) {
  struct Waits {
    const Barrier* barrier;
    std::uint32_t phase;
  };
  check(barrier);
  const Waits waits = {barrier, phase};
  emulator::wait_until(
      [](const void* context) {
        const auto* const w = static_cast<const Waits*>(context);
        return w->barrier->phase != w->phase;
      },
      &waits);
}

void sync_cluster() {
  if (planted_fault() != Fault::kClusterStart) cluster->start.meet();
}

void load_box(const TensorMap& map, Barrier* full, void* to, const Box& box,
              std::uint16_t receivers) {
  Copy copy = copy_of(map, to, box);
  copy.full = own().offset_of(full);
  copy.receivers = receivers;
  if (planted_fault() == Fault::kMulticast) {
    copy.receivers = static_cast<std::uint16_t>(1U << own_index());
  }
  if (cluster->turn++ % 3 == 0) return bring(copy);
  cluster->loads.push_back(copy);
}

void load_box(const TensorMap& map, Barrier* full, void* to, const Box& box) {
  load_box(map, full, to, box, static_cast<std::uint16_t>(1U << own_index()));
}

void store_box(const TensorMap& map, const void* from, const Box& box) {
  send(map, from, box, false);
}
void add_box(const TensorMap& map, const void* from, const Box& box) { send(map, from, box, true); }

void commit_stores() {
  Thread& thread = own_thread();
  thread.groups.push_back(std::move(thread.open));
  thread.open.clear();
}

void wait_for_stores(std::int32_t pending) {
  if (planted_fault() == Fault::kStoreWait && pending > 0) return;
  std::deque<std::vector<Copy>>& groups = own_thread().groups;
  while (static_cast<std::int32_t>(groups.size()) > pending) {
    for (const Copy& copy : groups.front()) take_away(copy);
    groups.pop_front();
  }
}

void note_written(const char* to, std::size_t bytes) {
  own_thread().written.push_back({own().offset_of(to), bytes});
}

void fence_shared() {
  if (planted_fault() == Fault::kFence) return;
  for (const Thread::Range& range : own_thread().written) {
    std::memcpy(own().seen.begin + range.offset, own().memory.begin + range.offset, range.bytes);
  }
  own_thread().written.clear();
}

void meet(int group) { own().groups[group].meet(); }
void sync_group(int group) {
  if (planted_fault() != Fault::kGroupBarrier) meet(group);
}

std::vector<float>& group_sums(int group) { return own().sums[group]; }

namespace {

// Runs body(block of the cluster, thread, shared memory) as every thread of a cluster.
template <class Body>
Status run_cluster(std::int32_t blocks, std::size_t bytes, const Body& body) {
  Cluster here(blocks, bytes);
  cluster = &here;
  Status status = emulator::run(
      1, blocks * kFibres, 0,
      [](const void* context, std::int32_t, std::int32_t, std::int32_t thread, char*) {
        // Consumers begin, and would be at their barriers before these are set up.
        constexpr std::int32_t kConsumers = kSm90Group * kSm90Consumers;
        const std::int32_t t = thread % kFibres;
        (*static_cast<const Body*>(context))(
            thread / kFibres, t < kConsumers ? t + kSm90Group : t - kConsumers, own().memory.begin);
        if (!own_thread().open.empty() || !own_thread().groups.empty()) {
          cluster->fail("shared memory is left before it was read");
        }
        ++own().left;
      },
      &body, bring_one);
  cluster = nullptr;
  if (here.failure.empty()) return status;
  return {StatusCode::kBackendError, here.failure};
}

}  // namespace
}  // namespace sm90

template <class E, Major kMajorA, Major kMajorB, Sm90Shape kShape>
Status launch_sm90(std::int32_t clusters, void* /*stream*/, const Sm90Params<E>& params) {
  using Kernel = GemmSm90Kernel<E, kMajorA, kMajorB, kShape>;
  using Shared = typename Kernel::Shared;
  static_assert(sizeof(Shared) <= 227 << 10);
  for (std::int32_t i = 0; i < clusters; ++i) {
    const auto body = [&](std::int32_t block, std::int32_t thread, char* shared) {
      const Sm90Place place = {
          i,      clusters,       block % Kernel::kClusterM, block / Kernel::kClusterM,
          thread, thread / kWarp, thread / kSm90Group};
      Kernel::run(params, place, shared);
    };
    DROPGEMM_RETURN_IF_ERROR(
        sm90::run_cluster(Kernel::kClusterM * Kernel::kClusterN, sizeof(Shared), body));
  }
  return {};
}

DROPGEMM_INSTANTIATE_SM90(BFloat16, kDepth, kDepth, kSquare);
DROPGEMM_INSTANTIATE_SM90(BFloat16, kDepth, kDepth, kWide);
DROPGEMM_INSTANTIATE_SM90(BFloat16, kDepth, kDepth, kPair);
DROPGEMM_INSTANTIATE_SM90(BFloat16, kDepth, kLine, kSquare);
DROPGEMM_INSTANTIATE_SM90(BFloat16, kDepth, kLine, kWide);
DROPGEMM_INSTANTIATE_SM90(BFloat16, kDepth, kLine, kPair);
DROPGEMM_INSTANTIATE_SM90(BFloat16, kLine, kLine, kSquare);
DROPGEMM_INSTANTIATE_SM90(BFloat16, kLine, kLine, kWide);
DROPGEMM_INSTANTIATE_SM90(BFloat16, kLine, kLine, kPair);
DROPGEMM_INSTANTIATE_SM90(Float16, kDepth, kDepth, kSquare);
DROPGEMM_INSTANTIATE_SM90(Float16, kDepth, kDepth, kWide);
DROPGEMM_INSTANTIATE_SM90(Float16, kDepth, kDepth, kPair);
DROPGEMM_INSTANTIATE_SM90(Float16, kDepth, kLine, kSquare);
DROPGEMM_INSTANTIATE_SM90(Float16, kDepth, kLine, kWide);
DROPGEMM_INSTANTIATE_SM90(Float16, kDepth, kLine, kPair);
DROPGEMM_INSTANTIATE_SM90(Float16, kLine, kLine, kSquare);
DROPGEMM_INSTANTIATE_SM90(Float16, kLine, kLine, kWide);
DROPGEMM_INSTANTIATE_SM90(Float16, kLine, kLine, kPair);
DROPGEMM_INSTANTIATE_SM90(float, kDepth, kDepth, kSquare);
DROPGEMM_INSTANTIATE_SM90(float, kDepth, kDepth, kWide);

}  // namespace dropgemm::cuda
