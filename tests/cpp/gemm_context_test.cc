// How a product runs: teams of threads, other people's teams, forked children, workspaces. None of
// it may be seen in the result.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <memory>
#include <thread>
#include <vector>

#include "dropgemm/gemm.h"
#include "gemm_fixture.h"

namespace dropgemm::testing {
namespace {

INSTANTIATE_TEST_SUITE_P(All, GemmTest, ::testing::ValuesIn(implementations()), name_of);

// Products large enough for a team, on every path.
TEST_P(GemmTest, Threads) {
  const TileSize tiles[] = {{}, {1, 1}, {512, 1}, {64, 32}, {24, 40}};
  std::uint64_t seed = 500;
  ctx_.num_threads = 3;
  for (const TileSize& input : tiles) {
    for (const TileSize& output : tiles) {
      GemmCase c;
      c.m = 150, c.n = 170, c.k = 170, c.seed = ++seed, c.keep = 0.8;
      c.a_tile = input, c.d_tile = output;
      c.trans_b = (seed & 1) != 0, c.bias = (seed & 2) != 0, c.a_sum = true;
      c.layout = static_cast<Layout>(seed / 4 % 4);
      check_fast(c);
    }
  }
}

TEST_P(GemmTest, BitsDoNotDependOnThreads) {
  for (const TileSize& tile : {TileSize{128, 32}, {512, 32}, {512, 1, 3, 1}}) {
    Array<float> a(512, 256, Layout::kRowMajor), b(320, 256, Layout::kRowMajor);
    std::mt19937_64 random(3);
    std::uniform_real_distribution<float> uniform(-1, 1);
    auto draw = [&](auto, auto) { return uniform(random); };
    a.fill(draw), b.fill(draw);
    const Mask ma(512, 256, tile, 0.5, false, random);
    const Mask md(512, 320, tile, 0.5, false, random);
    for (const Precision precision : {Precision::kHighest, Precision::kMedium}) {
      std::vector<Array<float>> results;
      for (std::int32_t threads : {1, 2, 3}) {
        results.emplace_back(512, 320, Layout::kRowMajor);
        GemmArgs args;
        args.a = a.view(), args.b = b.view(), args.d = results.back().view();
        args.precision = precision;
        args.trans_b = true, args.a_mask = ma.view(), args.d_mask = md.view();
        ctx_.num_threads = threads;
        ASSERT_TRUE(gemm(ctx_, args).ok());
      }
      for (std::size_t r = 1; r < results.size(); ++r) {
        results[r].fill([&](auto i, auto j) {
          EXPECT_EQ(results[r].at(i, j), results[0].at(i, j)) << i << ", " << j;
          return results[r].at(i, j);
        });
      }
    }
  }
}

TEST_P(GemmTest, UsesTheCallersWorkspace) {
  Array<float> a(64, 64, Layout::kRowMajor), b(64, 64, Layout::kRowMajor);
  Array<float> d(64, 64, Layout::kRowMajor);
  a.fill([](auto i, auto j) { return i == j ? 1 : 0; });
  b.fill([](auto i, auto j) { return i * 64 + j; });
  GemmArgs args;
  args.a = a.view(), args.b = b.view(), args.d = d.view();
  std::size_t bytes = 0;
  ASSERT_TRUE(gemm_workspace_bytes(ctx_, args, &bytes).ok());
  std::vector<char> memory(bytes + 64 + 16, 0x5A);
  void* aligned = memory.data();
  std::size_t space = bytes + 64;
  ctx_.workspace = std::align(64, bytes, aligned, space);
  ctx_.workspace_bytes = bytes;
  ASSERT_TRUE(gemm(ctx_, args).ok());
  for (int guard = 0; guard < 16; ++guard) {
    EXPECT_EQ(static_cast<char*>(ctx_.workspace)[bytes + static_cast<std::size_t>(guard)], 0x5A);
  }
  EXPECT_EQ(d.at(3, 5), 3 * 64 + 5);
}

// Columns that are left out between kept ones hold sums of a part of the depth for a while, which
// no thread that fills what is left out may touch: none that is late, as on a busy machine.
TEST_P(GemmTest, FillsNothingBetweenPassesOverTheDepth) {
  if (GetParam().backend == "reference") GTEST_SKIP() << "makes one pass, in one thread";
  constexpr std::int64_t kRows = 256, kCols = 96, kDepth = 9000;
  Array<float> a(kRows, kDepth, Layout::kRowMajor), b(kDepth, kCols, Layout::kRowMajor);
  Array<float> bias(1, kCols, Layout::kRowMajor), d(kRows, kCols, Layout::kRowMajor);
  for (Array<float>* x : {&a, &b, &bias}) x->fill([](auto, auto) { return 1; });
  const std::uint32_t bits = 0xFDF;  // columns [40, 48) of B are dropped: D's are the bias
  const TileMaskView mask = {&bits, kDepth, kCols, kDepth, 8};
  GemmArgs args;
  args.a = a.view(), args.b = b.view(), args.d = d.view(), args.b_mask = &mask;
  args.bias = &bias.at(0, 0);
  ctx_.num_threads = 4;
  std::atomic<bool> done{false};
  std::vector<std::thread> others;
  for (int i = 0; i < 3; ++i) {
    others.emplace_back([&] {
      while (!done) {
      }
    });
  }
  std::int64_t wrong = 0;
  for (int attempt = 0; attempt < 20 && wrong == 0; ++attempt) {
    d.fill([](auto, auto) { return -1; });
    EXPECT_TRUE(gemm(ctx_, args).ok());
    for (std::int64_t i = 0; i < kRows; ++i) {
      for (std::int64_t j = 0; j < kCols; ++j) {
        wrong += d.at(i, j) != (j / 8 == 5 ? 1.0F : static_cast<float>(kDepth + 1)) ? 1 : 0;
      }
    }
  }
  done = true;
  for (std::thread& other : others) other.join();
  EXPECT_EQ(wrong, 0) << "elements of " << kRows * kCols;
}

// Every thread of a caller's parallel region makes a product of its own.
TEST_P(GemmTest, WithinAParallelRegion) {
  constexpr int kThreads = 3;
  double worst[kThreads] = {};
#pragma omp parallel for num_threads(kThreads) schedule(static, 1)
  for (int t = 0; t < kThreads; ++t) {
    Array<float> a(64, 64, Layout::kRowMajor), b(64, 64, Layout::kRowMajor), d = a;
    const std::uint32_t bits[] = {0xAAAAAAAAU, 0x55555555U};  // odd columns, then even ones
    const TileMaskView mask = {bits, 64, 64, 64, 1};
    a.fill([&](auto i, auto j) { return i == j ? t + 1 : 0; });
    b.fill([](auto i, auto j) { return i * 64 + j; });
    d.fill([](auto, auto) { return -1; });
    GemmArgs args;
    args.a = a.view(), args.b = b.view(), args.d = d.view(), args.d_mask = &mask;
    if (!gemm(ctx_, args).ok()) worst[t] = 1e9;
    for (std::int64_t i = 0; i < 64; ++i) {
      for (std::int64_t j = 0; j < 64; ++j) {
        const auto want =
            element_kept(mask, i, j) ? static_cast<double>((t + 1) * (i * 64 + j)) : 0;
        worst[t] = std::max(worst[t], std::abs(want - static_cast<double>(d.at(i, j))));
      }
    }
  }
  for (const double error : worst) EXPECT_EQ(error, 0.0);
}

// A forked child has none of its parent's worker threads.
TEST_P(GemmTest, InAForkedChild) {
  if (GetParam().backend == kCuda) GTEST_SKIP() << "a CUDA context does not survive fork()";
  GemmCase c;
  c.m = c.n = c.k = 160, c.a_tile = {64, 32};
  ctx_.num_threads = 2;
  check_fast(c);  // starts the workers
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    alarm(60);
    check_fast(c);
    _exit(HasFailure() ? 1 : 0);
  }
  int state = 0;
  ASSERT_EQ(waitpid(child, &state, 0), child);
  EXPECT_TRUE(WIFEXITED(state)) << "ended by signal " << WTERMSIG(state);
  EXPECT_EQ(WEXITSTATUS(state), 0);
}

// Masks without a zero: the bits of no masks at all, in the workspace that masks of these tiles and
// hints take. Small dimensions on each side, and none.
TEST_P(GemmTest, MasksThatDropNothing) {
  const TileSize tiles[] = {{1, 1}, {4096, 1}, {4096, 32}, {64, 32}, {24, 40}};
  const GemmShape shapes[] = {
      {8, 300, 700}, {300, 10, 2200}, {300, 330, 40}, {150, 200, 300}, {5, 7, 0}};
  std::mt19937_64 random(11);
  std::uniform_real_distribution<float> uniform(-1, 1);
  for (const GemmShape& s : shapes) {
    Array<float> a(s.m, s.k, Layout::kRowMajor), b(s.n, s.k, Layout::kRowMajor);
    a.fill([&](auto, auto) { return uniform(random); });
    b.fill([&](auto, auto) { return uniform(random); });
    for (const TileSize& tile : tiles) {
      const Mask ma(s.m, s.k, tile, 1, false, random), md(s.m, s.n, tile, 1, false, random);
      TileMaskView a_mask = *ma.view(), d_mask = *md.view();
      if (s.k == 0) a_mask.bits = nullptr;  // of no words
      for (const double hint : {0.3, 1.0}) {
        a_mask.keep_hint = d_mask.keep_hint = hint;
        Array<float> with(s.m, s.n, Layout::kRowMajor), without(s.m, s.n, Layout::kRowMajor);
        GemmArgs args;
        args.a = a.view(), args.b = b.view(), args.trans_b = true, args.d = without.view();
        Context ctx = ctx_;
        ctx.num_threads = 2;
        ASSERT_TRUE(gemm(ctx, args).ok());
        args.d = with.view(), args.a_mask = &a_mask, args.d_mask = &d_mask;
        std::size_t bytes = 0;
        ASSERT_TRUE(gemm_workspace_bytes(ctx, args, &bytes).ok());
        GuardedWorkspace workspace(bytes);
        ctx.workspace = workspace.data(), ctx.workspace_bytes = bytes;
        ASSERT_TRUE(gemm(ctx, args).ok());
        EXPECT_TRUE(workspace.intact());
        without.fill([&](auto i, auto j) {
          EXPECT_EQ(with.at(i, j), without.at(i, j)) << i << ", " << j;
          return without.at(i, j);
        });
      }
    }
  }
}

// What compaction leaves is cut into other blocks than the workspace was laid out for: several
// passes of depth become one, wide strips of B become narrow or wide ones.
TEST_P(GemmTest, CompactionCutsOtherBlocks) {
  std::uint64_t seed = 700;
  for (double keep : {0.02, 0.5, 0.95}) {
    for (std::int32_t threads : {1, 4}) {
      ctx_.num_threads = threads;
      GemmCase deep;
      deep.m = 9, deep.n = 70, deep.k = 9001, deep.keep = keep, deep.seed = ++seed;
      deep.a_tile = {9, 7}, deep.d_tile = {9, 1};
      check_fast(deep);
      GemmCase wide;
      wide.m = 20, wide.n = 2500, wide.k = 90, wide.keep = keep, wide.seed = ++seed;
      wide.a_tile = {20, 3}, wide.d_tile = {20, 32}, wide.trans_b = true;
      check_fast(wide);
      GemmCase tall;
      tall.m = 2500, tall.n = 20, tall.k = 90, tall.keep = keep, tall.seed = ++seed;
      tall.trans_a = true, tall.a_tile = {90, 1}, tall.b_tile = {90, 1};
      check_fast(tall);
    }
  }
}

}  // namespace
}  // namespace dropgemm::testing
