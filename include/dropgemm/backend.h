// A backend is one versioned table of C functions, so that one may come from a library opened at
// run time. The front ends (gemm.h, mask.h, pattern.h, compact.h, sgd.h, lstm.h) check arguments
// and handle trivial cases before a table is called; a table's functions may rely on that.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "dropgemm/compact.h"
#include "dropgemm/gemm.h"
#include "dropgemm/lstm.h"
#include "dropgemm/mask.h"
#include "dropgemm/pattern.h"
#include "dropgemm/sgd.h"
#include "dropgemm/status.h"

namespace dropgemm {

constexpr std::uint32_t kBackendAbi = 6;

// Where a table's function puts the message of a failure.
struct ErrorText {
  char* text;
  std::size_t capacity;
};

struct Backend {
  std::uint32_t abi_version;
  std::uint32_t struct_bytes;  // sizeof(Backend) when the backend was compiled
  const char* name;            // "cpu"
  // The default is the built-in backend with the highest, and an error where that does not work.
  // A backend library works on another kind of memory, so it is taken only where a context,
  // use_backend() or DROPGEMM_BACKEND names it.
  std::int32_t priority;

  // All return a StatusCode; kOk == 0.
  std::int32_t (*available)(ErrorText why_not);
  std::int32_t (*describe)(char* text, std::size_t capacity);  // one line: ISA or device
  std::int32_t (*gemm_plan)(const Context* ctx, const GemmArgs* args, GemmPlan* plan);
  std::int32_t (*gemm_workspace_bytes)(const Context* ctx, const GemmArgs* args,
                                       std::size_t* bytes);
  std::int32_t (*gemm)(const Context* ctx, const GemmArgs* args, ErrorText error);
  std::int32_t (*bernoulli_mask)(const Context* ctx, const BernoulliMaskArgs* args,
                                 ErrorText error);
  std::int32_t (*gyro_mask)(const Context* ctx, const GyroMaskArgs* args, ErrorText error);
  std::int32_t (*pattern_mask)(const Context* ctx, const PatternMaskArgs* args, ErrorText error);
  std::int32_t (*gather)(const Context* ctx, const CompactArgs* args, ErrorText error);
  std::int32_t (*scatter)(const Context* ctx, const ExpandArgs* args, ErrorText error);
  std::int32_t (*sgd)(const Context* ctx, const SgdArgs* args, ErrorText error);

  // Null where a backend has no such thing: the front ends say so.
  std::int32_t (*gemm_packed_bytes)(const Context* ctx, const GemmArgs* args, std::size_t* bytes,
                                    ErrorText error);
  std::int32_t (*gemm_pack)(const Context* ctx, const GemmArgs* args, void* packed,
                            ErrorText error);
  std::int32_t (*lstm_cell)(const Context* ctx, const LstmCellArgs* args, ErrorText error);
  std::int32_t (*lstm_cell_grad)(const Context* ctx, const LstmCellGradArgs* args, ErrorText error);
};

// Names of the backends that work on this machine, the one a call takes by itself first.
[[nodiscard]] std::vector<std::string> backends();

// One line about a backend, or why it does not work here.
// Errors: kInvalidArgument for an unknown name, with the known ones listed.
[[nodiscard]] Status describe_backend(const std::string& name, std::string* line);

// Makes `name` the backend of every later call in this process whose Context names none; ""
// returns to the default. The environment variable DROPGEMM_BACKEND sets the first choice; a value
// that cannot be had is an error of every call that would follow it, never a silent fallback.
// Errors: kInvalidArgument for an unknown name, kUnsupported when it does not work here.
[[nodiscard]] Status use_backend(const std::string& name);

// The table of a backend that works here. Errors: as use_backend.
[[nodiscard]] Status find_backend(const std::string& name, const Backend** backend);

// The backend a call with this context takes.
// Errors: kInvalidArgument for a backend of another ABI, a negative num_threads, a workspace that
// is not 64-byte aligned; those of use_backend where DROPGEMM_BACKEND names the backend.
[[nodiscard]] Status resolve_backend(const Context& ctx, const Backend** backend);

}  // namespace dropgemm

// What a backend library exports: its table, or null when it does not speak this ABI.
extern "C" {
using dropgemm_backend_entry = const dropgemm::Backend* (*)(std::uint32_t abi_version);
}
