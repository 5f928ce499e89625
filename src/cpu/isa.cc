// Run-time choice of the instruction set. Which ones were compiled in is the build's knowledge
// (DROPGEMM_HAVE_*), which ones run here is the processor's.
#include "cpu/isa.h"

#include <atomic>
#include <cstdlib>
#include <cstring>

namespace dropgemm::cpu {

#if defined(DROPGEMM_HAVE_AVX512)
extern const Isa kIsa_avx512;
#endif
#if defined(DROPGEMM_HAVE_AVX512_BF16)
extern const BFloat16Kernels kBFloat16_avx512;
#endif
#if defined(DROPGEMM_HAVE_AVX2)
extern const Isa kIsa_avx2;
#endif
#if defined(DROPGEMM_HAVE_NEON)
extern const Isa kIsa_neon;
#endif
extern const Isa kIsa_generic;

namespace {

constexpr const char* kChoiceVariable = "DROPGEMM_CPU_ISA";

#if defined(DROPGEMM_HAVE_AVX512)
bool has_avx512() {
  return __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
         __builtin_cpu_supports("avx512vl") != 0 && __builtin_cpu_supports("avx512dq") != 0 &&
         __builtin_cpu_supports("fma") != 0;
}
#endif
#if defined(DROPGEMM_HAVE_AVX512_BF16)
bool has_avx512_bf16() { return has_avx512() && __builtin_cpu_supports("avx512bf16") != 0; }

// AVX-512's kernels, and beside them those of bfloat16.
const Isa& avx512_bf16() {
  static const Isa extended = [] {
    Isa isa = kIsa_avx512;
    isa.name = "avx512_bf16";
    isa.pairs = &kBFloat16_avx512;
    return isa;
  }();
  return extended;
}
#endif
#if defined(DROPGEMM_HAVE_AVX2)
bool has_avx2() {
  return __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0;
}
#endif

// Those that run here, widest first.
std::vector<const Isa*> runnable() {
  std::vector<const Isa*> found;
#if defined(DROPGEMM_HAVE_AVX512_BF16)
  if (has_avx512_bf16()) found.push_back(&avx512_bf16());
#endif
#if defined(DROPGEMM_HAVE_AVX512)
  if (has_avx512()) found.push_back(&kIsa_avx512);
#endif
#if defined(DROPGEMM_HAVE_AVX2)
  if (has_avx2()) found.push_back(&kIsa_avx2);
#endif
#if defined(DROPGEMM_HAVE_NEON)
  found.push_back(&kIsa_neon);
#endif
  found.push_back(&kIsa_generic);
  return found;
}

const Isa* find(const char* name) {
  for (const Isa* candidate : runnable()) {
    if (std::strcmp(candidate->name, name) == 0) return candidate;
  }
  return nullptr;
}

Status unknown(const char* what, const std::string& name) {
  std::string known;
  for (const std::string& each : isa_names()) known += (known.empty() ? "" : ", ") + each;
  return Status::invalid(what, "one of " + known, "'" + name + "'");
}

struct Choice {
  Status status;
  const Isa* isa = nullptr;
};

// The environment's choice, or the widest. Made once, as the registry's choice of a backend.
const Choice& first_choice() {
  static const Choice choice = [] {
    Choice made;
    const char* const named = std::getenv(kChoiceVariable);
    if (named != nullptr && named[0] != '\0') {
      made.isa = find(named);
      if (made.isa == nullptr) made.status = unknown(kChoiceVariable, named);
    }
    if (made.isa == nullptr) made.isa = runnable().front();
    return made;
  }();
  return choice;
}

std::atomic<const Isa*>& in_use() {
  static std::atomic<const Isa*> chosen{first_choice().isa};
  return chosen;
}

}  // namespace

const Isa& isa() { return *in_use().load(std::memory_order_relaxed); }
const char* isa_name() { return isa().name; }
bool isa_has(const char* name) { return std::strncmp(isa_name(), name, std::strlen(name)) == 0; }
bool isa_multiplies_bfloat16() { return isa().pairs != nullptr; }
Status check_isa() { return first_choice().status; }

std::vector<std::string> isa_names() {
  std::vector<std::string> names;
  for (const Isa* candidate : runnable()) names.emplace_back(candidate->name);
  return names;
}

Status use_isa(const std::string& name) {
  const Isa* found = find(name.c_str());
  if (found == nullptr) return unknown("isa", name);
  in_use().store(found, std::memory_order_relaxed);
  return {};
}

template <>
const KernelTable<F32>& kernels<F32>() {
  return isa().f32;
}
template <>
const KernelTable<F64>& kernels<F64>() {
  return isa().f64;
}
template <>
const KernelTable<BF16AsF32>& kernels<BF16AsF32>() {
  return isa().bf16_as_f32;
}
template <>
const KernelTable<BF16>& kernels<BF16>() {
  return isa().pairs->bf16;
}
template <>
const KernelTable<F32AsBF16>& kernels<F32AsBF16>() {
  return isa().pairs->f32_as_bf16;
}

}  // namespace dropgemm::cpu
