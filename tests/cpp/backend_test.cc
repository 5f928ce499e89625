// The registry: names, forcing one and proof that it took, the environment, backend libraries.
#include "dropgemm/backend.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "cpu/isa.h"
#include "registry.h"

namespace dropgemm {
namespace {

// A table that marks what it is asked to write: proof of who was called.
std::int32_t yes(ErrorText) { return 0; }
std::int32_t mark_bernoulli(const Context*, const BernoulliMaskArgs* args, ErrorText) {
  args->mask.bits[0] = 0xBE;
  return 0;
}
std::int32_t fail_gyro(const Context*, const GyroMaskArgs*, ErrorText error) {
  return report({StatusCode::kBackendError, "the spy has no memory"}, error);
}
Backend spy() {
  Backend table = *reference_backend();
  table.name = "spy";
  table.available = yes;
  table.bernoulli_mask = mark_bernoulli;
  table.gyro_mask = fail_gyro;
  return table;
}

std::string current() {
  const Backend* backend = nullptr;
  const Status status = resolve_backend({}, &backend);
  return status.ok() ? backend->name : status.message();
}

// Leaves the process as it was found.
class BackendTest : public testing::Test {
 protected:
  void TearDown() override { ASSERT_TRUE(use_backend("").ok()); }
};

TEST_F(BackendTest, TablesSayWhatTheyAre) {
  for (const Backend* table : {reference_backend(), cpu_backend()}) {
    EXPECT_EQ(table->abi_version, kBackendAbi);
    EXPECT_EQ(table->struct_bytes, sizeof(Backend));
    EXPECT_NE(table->gemm_plan, nullptr);
    EXPECT_NE(table->gemm_workspace_bytes, nullptr);
    EXPECT_NE(table->gemm, nullptr);
    EXPECT_NE(table->bernoulli_mask, nullptr);
    EXPECT_NE(table->gyro_mask, nullptr);
    EXPECT_NE(table->pattern_mask, nullptr);
    EXPECT_NE(table->gather, nullptr);
    EXPECT_NE(table->scatter, nullptr);
    EXPECT_NE(table->sgd, nullptr);
  }
  EXPECT_GT(cpu_backend()->priority, reference_backend()->priority);
}

TEST_F(BackendTest, FindsByName) {
  for (const char* name : {"reference", "cpu"}) {
    const Backend* backend = nullptr;
    ASSERT_TRUE(find_backend(name, &backend).ok());
    EXPECT_STREQ(backend->name, name);
  }
}

TEST_F(BackendTest, UnknownNamesListTheKnownOnes) {
  const std::string expected = "backend: expected one of cpu, reference, cuda, got 'tpu'";
  const Backend* backend = nullptr;
  std::string line;
  for (const Status& status :
       {find_backend("tpu", &backend), use_backend("tpu"), describe_backend("tpu", &line)}) {
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    EXPECT_EQ(status.message(), expected);
  }
  EXPECT_EQ(backend, nullptr);
  EXPECT_EQ(find_backend("", &backend).code(), StatusCode::kInvalidArgument);
}

TEST_F(BackendTest, DescribesEach) {
  std::string line;
  ASSERT_TRUE(describe_backend("cpu", &line).ok());
  EXPECT_EQ(line.rfind(std::string("cpu: ") + cpu::isa_name() + ", ", 0), 0U) << line;
  EXPECT_NE(line.find(" thread"), std::string::npos) << line;
  ASSERT_TRUE(describe_backend("reference", &line).ok());
  EXPECT_EQ(line.rfind("reference: ", 0), 0U) << line;
  ASSERT_TRUE(describe_backend("cuda", &line).ok());
  EXPECT_EQ(line.rfind("cuda: ", 0), 0U) << line;
}

TEST_F(BackendTest, DescriptionsAreCutToTheirRoom) {
  for (const Backend* table : {reference_backend(), cpu_backend()}) {
    char text[6] = "xxxxx";
    EXPECT_EQ(table->describe(text, 4), 0);
    EXPECT_EQ(std::string(text), std::string(table->name).substr(0, 3));
    EXPECT_EQ(text[4], 'x');
  }
}

TEST_F(BackendTest, AForcedBackendIsTheOneThatIsTaken) {
  for (const char* name : {"reference", "cpu", "reference"}) {
    ASSERT_TRUE(use_backend(name).ok());
    EXPECT_EQ(current(), name);
    EXPECT_EQ(backends().front(), name);
    std::string from_thread;  // the choice is the process's
    std::thread([&] { from_thread = current(); }).join();
    EXPECT_EQ(from_thread, name);
  }
  EXPECT_FALSE(use_backend("tpu").ok());
  EXPECT_EQ(current(), "reference") << "a refused choice changes nothing";
}

TEST_F(BackendTest, ListsWhatWorksHereOnce) {
  const std::vector<std::string> names = backends();
  for (const char* name : {"reference", "cpu"}) {
    EXPECT_EQ(std::count(names.begin(), names.end(), name), 1);
  }
  EXPECT_EQ(names.front(), current());
}

TEST_F(BackendTest, AContextsBackendWins) {
  const Backend table = spy();
  Context ctx;
  ctx.backend = &table;
  ASSERT_TRUE(use_backend("cpu").ok());
  std::uint32_t bits = 0;
  BernoulliMaskArgs args;
  args.mask = {&bits, 1, 5, 1, 1};
  ASSERT_TRUE(bernoulli_mask(ctx, args).ok());
  EXPECT_EQ(bits, 0xBEU);
  GyroMaskArgs gyro;
  gyro.mask = {&bits, 1, 5, 1, 1};
  const Status status = gyro_mask(ctx, gyro);
  EXPECT_EQ(status.code(), StatusCode::kBackendError);
  EXPECT_EQ(status.message(), "the spy has no memory");
  // Checks and trivial cases come before a table is called.
  gyro.p = 2;
  EXPECT_EQ(gyro_mask(ctx, gyro).code(), StatusCode::kInvalidArgument);
  gyro.p = 0.5;
  gyro.mask.cols = 0;
  EXPECT_TRUE(gyro_mask(ctx, gyro).ok());
}

TEST_F(BackendTest, AContextsTableOfAnotherAbiIsRefused) {
  Backend table = spy();
  table.abi_version = 99;
  Context ctx;
  ctx.backend = &table;
  const Backend* backend = nullptr;
  EXPECT_EQ(resolve_backend(ctx, &backend).message(),
            "ctx.backend: expected a table of ABI " + std::to_string(kBackendAbi) +
                ", got ABI 99 with " + std::to_string(sizeof(Backend)) + " bytes");
}

// --- The environment is read once, so each case needs a process of its own -----------------------

// Runs in a child that has not resolved a backend yet, and says on stderr what it found.
void say_and_exit(const std::string& line) {
  std::fprintf(stderr, "%s\n", line.c_str());
  std::exit(0);
}

class BackendEnvironmentDeathTest : public testing::Test {
 protected:
  BackendEnvironmentDeathTest() { testing::FLAGS_gtest_death_test_style = "threadsafe"; }
};

void with_choice(const char* choice) {
  setenv("DROPGEMM_BACKEND", choice, 1);
  say_and_exit("took: " + current() + ".");
}

TEST_F(BackendEnvironmentDeathTest, NamesTheFirstChoice) {
  EXPECT_EXIT(with_choice("reference"), testing::ExitedWithCode(0), "took: reference\\.");
  EXPECT_EXIT(with_choice("cpu"), testing::ExitedWithCode(0), "took: cpu\\.");
  EXPECT_EXIT(with_choice(""), testing::ExitedWithCode(0), "took: cpu\\.");
  EXPECT_EXIT(
      {
        unsetenv("DROPGEMM_BACKEND");
        say_and_exit("took: " + current() + ".");
      },
      testing::ExitedWithCode(0), "took: cpu\\.");
}

TEST_F(BackendEnvironmentDeathTest, AChoiceThatCannotBeHadIsAnErrorNotAFallback) {
  EXPECT_EXIT(with_choice("tpu"), testing::ExitedWithCode(0),
              "took: DROPGEMM_BACKEND: expected one of cpu, reference, cuda, got 'tpu'\\.");
  EXPECT_EXIT(
      {
        setenv("DROPGEMM_CUDA_LIBRARY", "/nowhere/libdropgemm_cuda.so", 1);
        with_choice("cuda");
      },
      testing::ExitedWithCode(0), "took: cuda: cannot open /nowhere/libdropgemm_cuda.so");
}

TEST_F(BackendEnvironmentDeathTest, UseBackendOverridesABadChoice) {
  EXPECT_EXIT(
      {
        setenv("DROPGEMM_BACKEND", "tpu", 1);
        const bool bad_before = current().find("got 'tpu'") != std::string::npos;
        const bool mended = use_backend("reference").ok() && current() == "reference";
        const bool bad_after = use_backend("").ok() && current() != "reference";
        say_and_exit(bad_before && mended && bad_after ? "mended" : "broken");
      },
      testing::ExitedWithCode(0), "mended");
}

void with_isa(const char* isa, const char* backend) {
  setenv("DROPGEMM_CPU_ISA", isa, 1);
  setenv("DROPGEMM_BACKEND", backend, 1);
  say_and_exit("took: " + current() + " with " + cpu::isa_name() + ".");
}

TEST_F(BackendEnvironmentDeathTest, NamesTheInstructionSet) {
  const std::string widest = cpu::isa_names().front();
  for (const std::string& isa : cpu::isa_names()) {
    EXPECT_EXIT(with_isa(isa.c_str(), ""), testing::ExitedWithCode(0),
                "took: cpu with " + isa + "\\.");
  }
  EXPECT_EXIT(with_isa("", ""), testing::ExitedWithCode(0), "took: cpu with " + widest + "\\.");
}

TEST_F(BackendEnvironmentDeathTest, AnInstructionSetThatCannotBeHadIsAnErrorNotAFallback) {
  std::string known;
  for (const std::string& isa : cpu::isa_names()) known += (known.empty() ? "" : ", ") + isa;
  const std::string message =
      "cpu: DROPGEMM_CPU_ISA: expected one of " + known + ", got 'avx1024' with ";
  for (const char* backend : {"", "cpu"}) {
    EXPECT_EXIT(with_isa("avx1024", backend), testing::ExitedWithCode(0), "took: " + message);
  }
  EXPECT_EXIT(with_isa("avx1024", "reference"), testing::ExitedWithCode(0), "took: reference with");
  EXPECT_EXIT(
      {
        setenv("DROPGEMM_CPU_ISA", "avx1024", 1);
        const std::vector<std::string> names = backends();
        say_and_exit(names == std::vector<std::string>{"reference"} ? "reference alone" : "more");
      },
      testing::ExitedWithCode(0), "reference alone");
}

// --- Backend libraries ---------------------------------------------------------------------------

void describe_cuda(const char* library) {
  if (library != nullptr) {
    setenv("DROPGEMM_CUDA_LIBRARY", library, 1);
  } else {
    unsetenv("DROPGEMM_CUDA_LIBRARY");
  }
  std::string line;
  const Status status = describe_backend("cuda", &line);
  say_and_exit(status.ok() ? line : status.message());
}

TEST_F(BackendEnvironmentDeathTest, SaysWhyThereIsNoCuda) {
  EXPECT_EXIT(describe_cuda("/nowhere/x.so"), testing::ExitedWithCode(0),
              "cuda: cannot open /nowhere/x.so: .*\\(DROPGEMM_CUDA_LIBRARY\\)");
  EXPECT_EXIT(describe_cuda("libm.so.6"), testing::ExitedWithCode(0),
              "cuda: libm.so.6: expected the symbol dropgemm_backend, got none");
  // Beside this program there may be one, where the CUDA backend was built too.
  EXPECT_EXIT(describe_cuda(nullptr), testing::ExitedWithCode(0), "cuda: ");
}

TEST(BackendLibraryTest, TakesATableOfThisAbi) {
  static const Backend table = spy();
  const BackendLibrary library =
      take_backend_table("x.so", [](std::uint32_t) -> const Backend* { return &table; });
  EXPECT_EQ(library.table, &table);
  EXPECT_EQ(library.reason, "");
}

TEST(BackendLibraryTest, RefusesAnyOther) {
  static Backend table = spy();
  const auto reason = [](dropgemm_backend_entry entry) {
    const BackendLibrary library = take_backend_table("x.so", entry);
    EXPECT_EQ(library.table, nullptr);
    return library.reason;
  };
  const dropgemm_backend_entry entry = [](std::uint32_t abi) -> const Backend* {
    EXPECT_EQ(abi, kBackendAbi);
    return &table;
  };
  const std::string expected =
      "x.so: expected a backend of ABI " + std::to_string(kBackendAbi) + ", got ";
  EXPECT_EQ(reason([](std::uint32_t) -> const Backend* { return nullptr; }),
            expected + "one that does not speak it");
  table.abi_version = kBackendAbi + 1;
  EXPECT_EQ(reason(entry), expected + "ABI " + std::to_string(kBackendAbi + 1));
  table.abi_version = kBackendAbi;
  table.struct_bytes = 8;
  EXPECT_EQ(reason(entry), "x.so: expected a backend table of " + std::to_string(sizeof(Backend)) +
                               " bytes, got 8");
}

}  // namespace
}  // namespace dropgemm
