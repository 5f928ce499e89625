// Internal: the tables that are compiled in, the backend library that may be opened at run time,
// and the two halves of carrying a Status across a table's C functions.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>

#include "dropgemm/backend.h"

namespace dropgemm {

const Backend* reference_backend();  // src/reference/backend.cc
const Backend* cpu_backend();        // src/cpu/backend.cc

// The result of looking for libdropgemm_cuda.so: a table that speaks this ABI, or why there is
// none.
struct BackendLibrary {
  const Backend* table = nullptr;
  std::string reason;
};

// Looks once in the life of the process, at the first call. The library stays open.
const BackendLibrary& cuda_library();

// Opens one file and takes the table of its entry.
BackendLibrary open_backend_library(const std::string& path);

// Asks an entry for its table, and refuses one of another ABI. `path` is for the reason.
BackendLibrary take_backend_table(const std::string& path, dropgemm_backend_entry entry);

// A backend's side: leaves the message with the caller, shortened to its room, returns the code.
inline std::int32_t report(const Status& status, ErrorText error) {
  if (!status.ok() && error.text != nullptr && error.capacity > 0) {
    const std::size_t length = std::min(status.message().size(), error.capacity - 1);
    std::memcpy(error.text, status.message().data(), length);
    error.text[length] = '\0';
  }
  return static_cast<std::int32_t>(status.code());
}

// The front end's side: `call` takes an ErrorText and returns a StatusCode as int32. A failure
// that says nothing still gets a sentence.
template <class Call>
Status call_backend(const Call& call) {
  char text[512] = "";
  const std::int32_t code = call(ErrorText{text, sizeof text});
  if (code == static_cast<std::int32_t>(StatusCode::kOk)) return {};
  return {
      static_cast<StatusCode>(code),
      text[0] != '\0' ? std::string(text) : "the backend failed with code " + std::to_string(code)};
}

}  // namespace dropgemm
