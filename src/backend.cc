// The registry: which backends there are, which of them work here, and which one a call takes.
#include "dropgemm/backend.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "registry.h"

namespace dropgemm {
namespace {

constexpr const char* kChoiceVariable = "DROPGEMM_BACKEND";
constexpr const char* kCudaName = "cuda";
constexpr std::uintptr_t kWorkspaceAlignment = 64;

// Set by use_backend(); null leaves the choice to first_choice().
std::atomic<const Backend*> chosen_backend{nullptr};

const std::vector<const Backend*>& built_in() {
  static const std::vector<const Backend*> tables = [] {
    std::vector<const Backend*> list = {reference_backend(), cpu_backend()};
    std::stable_sort(list.begin(), list.end(),
                     [](const Backend* x, const Backend* y) { return x->priority > y->priority; });
    return list;
  }();
  return tables;
}

Status check_available(const Backend& backend) {
  Status status = call_backend(backend.available);
  if (status.ok()) return status;
  return {StatusCode::kUnsupported, std::string(backend.name) + ": " + status.message()};
}

std::string known_names() {
  std::string names;
  for (const Backend* table : built_in()) names += std::string(table->name) + ", ";
  return names + kCudaName;
}

// The table of a name, whether it works here or not.
Status find_table(const std::string& what, const std::string& name, const Backend** backend) {
  for (const Backend* table : built_in()) {
    if (name == table->name) {
      *backend = table;
      return {};
    }
  }
  if (name != kCudaName) {
    return Status::invalid(what, "one of " + known_names(), "'" + name + "'");
  }
  const BackendLibrary& library = cuda_library();
  if (library.table == nullptr) {
    return {StatusCode::kUnsupported, std::string(kCudaName) + ": " + library.reason};
  }
  *backend = library.table;
  return {};
}

Status find_working(const std::string& what, const std::string& name, const Backend** backend) {
  const Backend* table = nullptr;
  DROPGEMM_RETURN_IF_ERROR(find_table(what, name, &table));
  DROPGEMM_RETURN_IF_ERROR(check_available(*table));
  *backend = table;
  return {};
}

struct Choice {
  Status status;
  const Backend* backend = nullptr;
};

Choice make_first_choice() {
  Choice choice;
  const char* const named = std::getenv(kChoiceVariable);
  if (named != nullptr && named[0] != '\0') {
    choice.status = find_working(kChoiceVariable, named, &choice.backend);
    return choice;
  }
  // No second best: falling back to the reference would look like a hang.
  choice.backend = built_in().front();
  choice.status = check_available(*choice.backend);
  return choice;
}

Status check_context(const Context& ctx) {
  if (ctx.num_threads < 0) {
    return Status::invalid("ctx.num_threads", "at least 0", std::to_string(ctx.num_threads));
  }
  const auto past = reinterpret_cast<std::uintptr_t>(ctx.workspace) % kWorkspaceAlignment;
  if (past == 0) return {};
  return Status::invalid("ctx.workspace",
                         "memory aligned to " + std::to_string(kWorkspaceAlignment) + " bytes",
                         "a pointer " + std::to_string(past) + " past a multiple");
}

// The environment's choice, or the default. Made once: getenv races with setenv, and a library
// that switched backends halfway through a run would help nobody.
const Choice& first_choice() {
  static const Choice choice = make_first_choice();
  return choice;
}

}  // namespace

std::vector<std::string> backends() {
  std::vector<const Backend*> tables = built_in();
  if (cuda_library().table != nullptr) tables.push_back(cuda_library().table);
  const Backend* current = nullptr;
  if (!resolve_backend(Context{}, &current).ok()) current = nullptr;
  std::stable_sort(tables.begin(), tables.end(), [&](const Backend* x, const Backend* y) {
    if ((x == current) != (y == current)) return x == current;
    return x->priority > y->priority;
  });
  std::vector<std::string> names;
  for (const Backend* table : tables) {
    if (check_available(*table).ok()) names.emplace_back(table->name);
  }
  return names;
}

Status describe_backend(const std::string& name, std::string* line) {
  const Backend* table = nullptr;
  Status status = find_working("backend", name, &table);
  if (status.code() == StatusCode::kUnsupported) {
    *line = status.message();
    return {};
  }
  if (!status.ok()) return status;
  char text[512] = "";
  const auto code = static_cast<StatusCode>(table->describe(text, sizeof text));
  if (code != StatusCode::kOk) return {code, name + ": cannot describe itself"};
  *line = text;
  return {};
}

Status use_backend(const std::string& name) {
  const Backend* table = nullptr;
  if (!name.empty()) DROPGEMM_RETURN_IF_ERROR(find_working("backend", name, &table));
  chosen_backend.store(table, std::memory_order_release);
  return {};
}

Status find_backend(const std::string& name, const Backend** backend) {
  return find_working("backend", name, backend);
}

Status resolve_backend(const Context& ctx, const Backend** backend) {
  DROPGEMM_RETURN_IF_ERROR(check_context(ctx));
  if (ctx.backend != nullptr) {
    if (ctx.backend->abi_version != kBackendAbi || ctx.backend->struct_bytes != sizeof(Backend)) {
      return Status::invalid("ctx.backend", "a table of ABI " + std::to_string(kBackendAbi),
                             "ABI " + std::to_string(ctx.backend->abi_version) + " with " +
                                 std::to_string(ctx.backend->struct_bytes) + " bytes");
    }
    *backend = ctx.backend;
    return {};
  }
  if (const Backend* table = chosen_backend.load(std::memory_order_acquire)) {
    *backend = table;
    return {};
  }
  const Choice& choice = first_choice();
  if (!choice.status.ok()) return choice.status;
  *backend = choice.backend;
  return {};
}

}  // namespace dropgemm
