#include "axes.h"

#include <benchmark/benchmark.h>

#ifdef _OPENMP
#include <omp.h>
#endif

#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <sstream>
#include <utility>

namespace dropgemm::bench {
namespace {

template <class T>
std::string joined(const std::vector<T>& values, const std::string& separator) {
  std::string line;
  for (const T& value : values) line += (line.empty() ? "" : separator) + text(value);
  return line;
}

template <class T>
bool parse(const std::string& word, T* value) {
  const char* const end = word.data() + word.size();
  const auto result = std::from_chars(word.data(), end, *value);
  return result.ec == std::errc() && result.ptr == end;
}

// That threads may run on.
std::int64_t processors() {
#ifdef _OPENMP
  return omp_get_num_procs();
#else
  return 1;
#endif
}

}  // namespace

const std::string& text(const std::string& value) { return value; }

std::string text(std::int64_t value) { return std::to_string(value); }

std::string text(double value) {
  std::ostringstream stream;
  stream << value;
  return stream.str();
}

Axes::Axes(std::string about, int argc, char** argv) : about_(std::move(about)) {
  const std::string flag = "--benchmark_out=";
  const char* const variable = std::getenv("BENCHMARK_OUT");  // the library's other way to name it
  std::string out = variable != nullptr ? variable : "";
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    help_ |= word == "--help";
    if (word.rfind(flag, 0) == 0) out = word.substr(flag.size());
  }
  if (std::filesystem::is_regular_file(out)) {
    errors_.push_back("--benchmark_out: expected a new file, got " + out +
                      ", which exists and is not overwritten");
  }
  if (!help_) benchmark::Initialize(&argc, argv);
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const std::size_t equals = word.find('=');
    if (word == "--help") continue;
    if (word.rfind("--", 0) != 0 || equals == std::string::npos) {
      errors_.push_back("expected --axis=value,value, got " + word);
    } else if (!flags_.emplace(word.substr(2, equals - 2), word.substr(equals + 1)).second) {
      errors_.push_back(word.substr(0, equals) + ": given twice");
    }
  }
}

std::optional<std::vector<std::string>> Axes::given(const std::string& name) {
  const auto flag = flags_.find(name);
  if (flag == flags_.end()) return std::nullopt;
  std::vector<std::string> values;
  std::istringstream stream(flag->second + ",");  // so that what follows the last comma counts
  for (std::string value; std::getline(stream, value, ',');) values.push_back(value);
  flags_.erase(flag);
  return values;
}

void Axes::refuse(const std::string& name, const std::string& legal, const std::string& got) {
  errors_.push_back("--" + name + ": expected " + legal + ", got '" + got + "'");
}

std::vector<std::int64_t> Axes::integers(const std::string& name,
                                         std::vector<std::int64_t> defaults, std::int64_t least,
                                         const std::string& meaning) {
  return numbers(name, std::move(defaults), least, std::int64_t{1} << 24, meaning);
}

std::vector<std::int64_t> Axes::threads(std::vector<std::int64_t> defaults, std::int64_t least) {
  return numbers("threads", std::move(defaults), least, processors(),
                 least == 0 ? "0: all there are" : "");
}

std::vector<std::int64_t> Axes::numbers(const std::string& name, std::vector<std::int64_t> defaults,
                                        std::int64_t least, std::int64_t most,
                                        const std::string& meaning) {
  const std::string legal = "whole numbers from " + text(least) + " to " + text(most);
  axes_.push_back({name, legal, joined(defaults, ","), meaning});
  const auto words = given(name);
  if (!words) return defaults;
  std::vector<std::int64_t> values;
  for (const std::string& word : *words) {
    std::int64_t value = 0;
    if (!parse(word, &value) || value < least || value > most) {
      refuse(name, legal, word);
    } else {
      values.push_back(value);
    }
  }
  return values;
}

std::vector<double> Axes::rates(const std::string& name, std::vector<double> defaults,
                                const std::string& meaning) {
  const std::string legal = "rates from 0 to 1";
  axes_.push_back({name, legal, joined(defaults, ","), meaning});
  const auto words = given(name);
  if (!words) return defaults;
  std::vector<double> values;
  for (const std::string& word : *words) {
    double value = 0;
    if (!parse(word, &value) || !(value >= 0 && value <= 1)) {
      refuse(name, legal, word);
    } else {
      values.push_back(value);
    }
  }
  return values;
}

std::vector<std::string> Axes::words(const std::string& name, std::vector<std::string> defaults,
                                     const std::vector<std::string>& legal,
                                     const std::string& meaning) {
  axes_.push_back({name, joined(legal, ", "), joined(defaults, ","), meaning});
  const auto words = given(name);
  if (!words) return defaults;
  std::vector<std::string> values;
  for (const std::string& word : *words) {
    bool known = false;
    for (const std::string& each : legal) known |= each == word;
    if (known) {
      values.push_back(word);
    } else {
      refuse(name, "some of " + joined(legal, ", "), word);
    }
  }
  return values;
}

std::optional<int> Axes::finish() const {
  std::vector<std::string> errors = errors_;
  for (const auto& [name, value] : flags_) errors.push_back("unknown axis --" + name);
  if (errors.empty() && !help_) return std::nullopt;
  std::ostream& out = help_ ? std::cout : std::cerr;
  for (const std::string& error : errors) out << error << "\n";
  if (help_) out << about_ << "\n";
  out << "Axes, each --axis=value,value:\n";
  for (const Legal& axis : axes_) {
    out << "  --" << axis.name << "=" << axis.defaults << "\n      " << axis.values;
    if (!axis.meaning.empty()) out << ": " << axis.meaning;
    out << "\n";
  }
  if (help_) {
    out << "And the benchmark library's flags, such as --benchmark_filter=REGEX, "
           "--benchmark_min_time=SECONDS, --benchmark_out=FILE.json\n";
  }
  return help_ ? 0 : 2;
}

}  // namespace dropgemm::bench
