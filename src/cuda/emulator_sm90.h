// A cluster of Hopper's blocks without a GPU, for kernel_sm90.cuh: kernel_sm90_device.h and the
// Core once more. Threads are fibres (emulator.h), of all blocks of a cluster at once.
//
// It shows what a GPU would answer by a hang or by wrong sums now and then. A copy arrives when it
// is asked for or as late as may be, by turns. Barriers count arrivals and bytes, and say so when
// there are more of them than the barrier knows. What leaves shared memory is read no sooner than
// somebody waits for it, and holds what was fenced, not what was written.
#pragma once

#include <cstdint>
#include <type_traits>
#include <vector>

#include "cuda/emulator.h"
#include "cuda/kernel_sm90.h"

namespace dropgemm::cuda::sm90 {

// What a test leaves out, to see it noticed.
enum class Fault : std::int32_t {
  kNone,
  kFence,         // of written shared memory
  kStoreWait,     // before a buffer is written again
  kGroupBarrier,  // among a group's threads
  kFullWait,      // for a stage's bytes
  kEmptyWait,     // for those who read a stage
  kPeerRelease,   // to the other block, of a stage that it fills too
  kMulticast,     // to the other block
  kBytes,         // of one box, that the barrier should expect
  kClusterStart,  // until all blocks have set up their barriers
  kClusterEnd,    // until the other block has read the last stages
};
Fault& planted_fault();

struct Barrier {
  std::uint32_t is_set_up;  // a number that memory does not hold by chance
  std::int32_t members, missing;
  std::int64_t bytes;  // still to come; negative where they came before they were expected
  std::uint32_t phase;
};
void set_up(Barrier* barrier, std::int32_t members);
void arrive(Barrier* barrier);
// Of another block, or this one.
void arrive_at(std::int32_t block, Barrier* barrier);
void expect(Barrier* barrier, std::int64_t bytes);
void wait_for(const Barrier* barrier, std::uint32_t phase);
// By all threads of the cluster.
void sync_cluster();

inline std::int32_t read(const std::int32_t* from) { return *from; }
inline WorkItem read(const WorkItem* from) { return *from; }

inline int computed_here(int x) { return x; }

inline void prefetch(const TensorMap& /*map*/) {}
void load_box(const TensorMap& map, Barrier* full, void* to, const Box& box,
              std::uint16_t receivers);
void load_box(const TensorMap& map, Barrier* full, void* to, const Box& box);  // for this block
void store_box(const TensorMap& map, const void* from, const Box& box);
void add_box(const TensorMap& map, const void* from, const Box& box);
void commit_stores();
void wait_for_stores(std::int32_t pending);
template <int kPending>
void wait_for_stores() {
  wait_for_stores(kPending);
}
void note_written(const char* to, std::size_t bytes);
template <class T>
void write_shared(char* to, T value) {
  *reinterpret_cast<T*>(to) = value;
  note_written(to, sizeof value);
}
void fence_shared();

void sync_group(int group);
void meet(int group);  // the same, which no test leaves out
template <int kRegisters>
void give_registers() {}
template <int kRegisters>
void take_registers() {}

// Of this block's group: what one of its threads sums up for all.
std::vector<float>& group_sums(int group);

// Rows [line][depth] of a tile that lies swizzled.
template <class E>
std::vector<float> unpack(const Sm90Operand& operand, const char* tile) {
  const bool depth_major = operand.major == Major::kDepth;
  const TileLayout& layout = operand.layout;
  const std::int32_t lines = depth_major ? layout.rows : layout.contiguous;
  const std::int32_t depth = depth_major ? layout.contiguous : layout.rows;
  std::vector<float> values;
  for (std::int32_t line = 0; line < lines; ++line) {
    for (std::int32_t k = 0; k < depth; ++k) {
      const std::int32_t at = depth_major ? layout.offset(k, line) : layout.offset(line, k);
      values.push_back(Number<E>::load(reinterpret_cast<const E*>(tile)[at]));
    }
  }
  return values;
}

template <class E, Major kMajorA, Major kMajorB, Sm90Shape kShape>
class Core {
 public:
  static constexpr Sm90Tile kTile = sm90_tile(kShape, kMajorA);
  static constexpr int kStages = kTile.stages;
  static constexpr int kM = kTile.block_m(), kN = kTile.block_n(), kK = sm90_tile_k(sizeof(E));
  static constexpr Sm90Operand kA = sm90_a(kTile, kMajorA, sizeof(E));
  static constexpr Sm90Operand kB = sm90_b(kTile, kMajorB, sizeof(E));
  static constexpr int kBlocks = kTile.cluster_m * kTile.cluster_n;

  class State {
   public:
    State() = default;
    State(std::int32_t index, std::uint32_t phase) : index_(index), phase_(phase) {}
    [[nodiscard]] std::int32_t index() const { return index_; }
    [[nodiscard]] std::uint32_t phase() const { return phase_; }
    State& operator++() {
      if (++index_ == kStages) index_ = 0, phase_ ^= 1;
      return *this;
    }

   private:
    std::int32_t index_ = 0;
    std::uint32_t phase_ = 0;
  };
  struct Operands {
    char a[kStages][kA.layout.bytes()];
    char b[kStages][kB.layout.bytes()];
  };
  struct Barriers {
    Barrier full[kStages], empty[kStages];
  };
  struct Sums {
    float of[kM * kN / (kSm90Group * kSm90Consumers)];
  };

  // CUTLASS has all consumers tell a lone block's barrier that a stage was read, and one thread of
  // each group the barrier of each block that fills it.
  static_assert(kTile.cluster_m == 1 || kTile.cluster_n == 1, "all blocks fill a stage");
  Core(Operands& operands, Barriers& barriers, int thread, int group)
      : operands_(operands), barriers_(barriers), thread_(thread % kSm90Group), group_(group - 1) {
    constexpr int kReaders = kSm90Consumers * (kBlocks == 1 ? kSm90Group : kBlocks);
    if (thread == 0) {
      for (int i = 0; i < kStages; ++i) {
        set_up(barriers.full + i, 1);
        set_up(barriers.empty + i, kReaders);
      }
    }
    sync_cluster();
  }

  static bool is_elected() { return emulator::lane() == 0; }
  static State first() { return {0, 1}; }
  void acquire(const State& state) {
    if (planted_fault() != Fault::kEmptyWait) {
      wait_for(barriers_.empty + state.index(), state.phase());
    }
    const std::int64_t left_out =
        planted_fault() == Fault::kBytes ? kA.layout.bytes() / kA.layout.boxes() : 0;
    expect(full(state), kA.layout.bytes() + kB.layout.bytes() - left_out);
  }
  Barrier* full(const State& state) { return barriers_.full + state.index(); }
  void* a(const State& state) { return operands_.a[state.index()]; }
  void* b(const State& state) { return operands_.b[state.index()]; }
  void finish(State state) {
    if (planted_fault() == Fault::kClusterEnd) return;
    for (int i = 0; i < kStages; ++i, ++state) {
      wait_for(barriers_.empty + state.index(), state.phase());
    }
  }

  // A stage is read when the one behind it has arrived: no sooner, and that is when it is given
  // back.
  void multiply(State& state, Sums& sums, std::int32_t steps) {
    if (thread_ == 0) group_sums(group_).assign(kSm90Group * sizeof sums / sizeof(float), 0.0F);
    State before = state;
    for (std::int32_t step = 0; step < steps; ++step, ++state) {
      if (planted_fault() != Fault::kFullWait) wait_for(full(state), state.phase());
      if (step == 0) continue;
      read_stage(before);
      before = state;
    }
    read_stage(before);
    take(&sums);
  }
  static void clear(Sums& sums) {
    for (float& sum : sums.of) sum = 0;
  }
  static float at(const Sums& sums, int turn, int eight, int half, int i) {
    return sums.of[place(turn, eight, half, i)];
  }

 private:
  static int place(int turn, int eight, int half, int i) {
    return ((turn * (kN / 8) + eight) * 2 + half) * 2 + i;
  }

  void read_stage(const State& state) {
    meet(group_);
    if (thread_ == 0) {
      add(unpack<E>(kA, operands_.a[state.index()]), unpack<E>(kB, operands_.b[state.index()]));
    }
    meet(group_);
    release(barriers_.empty + state.index());
  }

  // Row r of a group's sums is row r % 64 of its turn r / 64.
  void add(const std::vector<float>& a, const std::vector<float>& b) const {
    std::vector<float>& sums = group_sums(group_);
    const auto rows = static_cast<std::int32_t>(sums.size()) / kN;
    for (std::int32_t r = 0; r < rows; ++r) {
      const std::int32_t m = sm90_first_row(r / kStoreRows, group_) + r % kStoreRows;
      for (std::int32_t n = 0; n < kN; ++n) {
        float& sum = sums.data()[r * kN + n];
        for (std::int32_t k = 0; k < kK; ++k) sum += a.data()[m * kK + k] * b.data()[n * kK + k];
      }
    }
  }

  // What this thread holds of them.
  void take(Sums* own) const {
    meet(group_);
    const std::vector<float>& sums = group_sums(group_);
    for (int turn = 0; turn < kM / 128; ++turn) {
      for (int eight = 0; eight < kN / 8; ++eight) {
        for (int i = 0; i < 4; ++i) {
          const int row = turn * kStoreRows + sm90_thread_row(thread_) + i / 2 * 8;
          const int col = 8 * eight + sm90_thread_col(thread_) + i % 2;
          own->of[place(turn, eight, i / 2, i % 2)] = sums.data()[row * kN + col];
        }
      }
    }
    meet(group_);
  }

  void release(Barrier* empty) const {
    if (kBlocks == 1) return arrive(empty);
    if (thread_ < kBlocks) arrive_at(thread_, empty);
  }

  Operands& operands_;
  Barriers& barriers_;
  int thread_, group_;
};

}  // namespace dropgemm::cuda::sm90
