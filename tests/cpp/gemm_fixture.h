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
inline std::vector<Implementation> implementations() {
  std::vector<Implementation> all = cpu_implementations();
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
  }
  void TearDown() override { ASSERT_TRUE(cpu::use_isa(cpu::isa_names().front()).ok()); }

  void check(const GemmCase& c) {
    check_against_reference<float>(ctx_, c);
    check_against_reference<double>(ctx_, c);
    check_against_reference<BFloat16>(ctx_, c);
    check_medium(c);
  }
  // In float32 and, by turns, in one of what is as fast.
  void check_fast(const GemmCase& c) {
    check_against_reference<float>(ctx_, c);
    (++checked_ % 2) != 0 ? check_against_reference<BFloat16>(ctx_, c) : check_medium(c);
  }
  void check_medium(const GemmCase& c) {
    GemmCase medium = c;
    medium.precision = Precision::kMedium;
    medium.rounds = rounds_;
    check_against_reference<float>(ctx_, medium);
  }
  Context ctx_;
  bool rounds_ = true;  // float32 operands of medium precision
  int checked_ = 0;
};

// Of one run of a suite: "cpu_avx2".
inline std::string name_of(const ::testing::TestParamInfo<Implementation>& each) {
  return each.param.backend + (each.param.isa.empty() ? "" : "_" + each.param.isa);
}

}  // namespace dropgemm::testing
