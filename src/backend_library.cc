// The CUDA backend comes from a library of its own, opened at run time, so that the core neither
// needs a CUDA runtime nor loads one before somebody asks. Only the opening lives here.
#include <dlfcn.h>
#include <sys/stat.h>

#include <cstdlib>
#include <string>

#include "registry.h"

namespace dropgemm {
namespace {

constexpr const char* kLibraryName = "libdropgemm_cuda.so";
constexpr const char* kPathVariable = "DROPGEMM_CUDA_LIBRARY";
constexpr const char* kEntryName = "dropgemm_backend";

// The directory of the binary that holds this library's code, be it shared or linked in.
std::string own_directory() {
  Dl_info info;
  if (dladdr(reinterpret_cast<const void*>(&cuda_library), &info) == 0 ||
      info.dli_fname == nullptr) {
    return ".";
  }
  const std::string path = info.dli_fname;
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

bool is_file(const std::string& path) {
  struct stat info;
  return ::stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode);
}

BackendLibrary find_cuda_library() {
  const char* named = std::getenv(kPathVariable);
  if (named != nullptr && named[0] != '\0') {
    BackendLibrary library = open_backend_library(named);
    if (library.table == nullptr) library.reason += std::string(" (") + kPathVariable + ")";
    return library;
  }
  const std::string directory = own_directory();
  const std::string path = directory + "/" + kLibraryName;
  if (!is_file(path)) {
    return {nullptr, std::string("no ") + kLibraryName + " beside " + directory + ", and " +
                         kPathVariable + " names none"};
  }
  return open_backend_library(path);
}

}  // namespace

BackendLibrary take_backend_table(const std::string& path, dropgemm_backend_entry entry) {
  const std::string expected_abi =
      path + ": expected a backend of ABI " + std::to_string(kBackendAbi) + ", got ";
  const Backend* const table = entry(kBackendAbi);
  if (table == nullptr) return {nullptr, expected_abi + "one that does not speak it"};
  if (table->abi_version != kBackendAbi) {
    return {nullptr, expected_abi + "ABI " + std::to_string(table->abi_version)};
  }
  if (table->struct_bytes != sizeof(Backend)) {
    return {nullptr, path + ": expected a backend table of " + std::to_string(sizeof(Backend)) +
                         " bytes, got " + std::to_string(table->struct_bytes)};
  }
  return {table, ""};
}

BackendLibrary open_backend_library(const std::string& path) {
  void* const handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    const char* const why = dlerror();
    return {nullptr, "cannot open " + path + ": " + (why != nullptr ? why : "no reason given")};
  }
  // Refused libraries stay open: a CUDA runtime does not survive being unloaded.
  const auto entry = reinterpret_cast<dropgemm_backend_entry>(dlsym(handle, kEntryName));
  if (entry == nullptr) {
    return {nullptr, path + ": expected the symbol " + kEntryName + ", got none"};
  }
  return take_backend_table(path, entry);
}

const BackendLibrary& cuda_library() {
  static const BackendLibrary library = find_cuda_library();
  return library;
}

}  // namespace dropgemm
