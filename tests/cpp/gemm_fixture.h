// Tests that run on every backend, and on every instruction set of the cpu backend.
#pragma once

#include <string>
#include <vector>

#include "cpu/isa.h"
#include "every_backend.h"
#include "gemm_case.h"

namespace dropgemm::testing {

struct Implementation {
  std::string backend;
  std::string isa;  // of the cpu backend
};

inline std::vector<Implementation> cpu_implementations() {
  std::vector<Implementation> all;
  for (const std::string& isa : cpu::isa_names()) all.push_back({"cpu", isa});
  return all;
}
// All but the reference.
inline std::vector<Implementation> other_implementations() {
  std::vector<Implementation> all = cpu_implementations();
  for (const std::string& name : cuda_backends()) all.push_back({name, ""});
  return all;
}
inline std::vector<Implementation> implementations() {
  std::vector<Implementation> all = other_implementations();
  all.insert(all.begin(), {"reference", ""});
  return all;
}

class GemmTest : public ::testing::TestWithParam<Implementation> {
 protected:
  void SetUp() override {
    ASSERT_TRUE(find_tested(GetParam().backend, &ctx_.backend).ok());
    if (!GetParam().isa.empty()) {
      ASSERT_TRUE(cpu::use_isa(GetParam().isa).ok());
      ASSERT_EQ(GetParam().isa, cpu::isa_name());
      rounds_ = cpu::isa_multiplies_bfloat16();
    }
    if (is_cuda()) rounds_ = false, operand_error_ = kTf32Error;
  }
  void TearDown() override { ASSERT_TRUE(cpu::use_isa(cpu::isa_names().front()).ok()); }

  void check(const GemmCase& c) {
    check_against_reference<float>(ctx_, c);
    check_against_reference<double>(ctx_, c);
    check_against_reference<BFloat16>(ctx_, c);
    if (GetParam().backend != "cpu") check_against_reference<Float16>(ctx_, c);
    check_medium(c);
  }
  // In float32 and, by turns, in one of what is as fast; of the emulated kernels, which know
  // nothing of what is special in these cases, every third case.
  void check_fast(const GemmCase& c) {
    ++checked_;
    if (GetParam().backend == kEmulated && checked_ % 3 != 0) return;
    check_against_reference<float>(ctx_, c);
    (checked_ % 2) != 0 ? check_against_reference<BFloat16>(ctx_, c) : check_medium(c);
  }
  void check_medium(const GemmCase& c) {
    GemmCase medium = c;
    medium.precision = Precision::kMedium;
    medium.rounds = rounds_;
    medium.operand_error = operand_error_;
    check_against_reference<float>(ctx_, medium);
  }
  static constexpr double kTf32Error = 1.0 / 2048;  // 11 bits of precision, to the nearest
  [[nodiscard]] bool is_cuda() const {
    return GetParam().backend == kEmulated || GetParam().backend == kCuda;
  }
  Context ctx_;
  bool rounds_ = true;  // float32 operands of medium precision, to bfloat16
  double operand_error_ = 0;
  int checked_ = 0;
};

// Of one run of a suite: "cpu_avx2".
inline std::string name_of(const ::testing::TestParamInfo<Implementation>& each) {
  return each.param.backend + (each.param.isa.empty() ? "" : "_" + each.param.isa);
}

}  // namespace dropgemm::testing
