#include "tune/state.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <span>
#include <stdexcept>
#include <utility>

#include "formatted.hpp"
#include "report/output.hpp"

namespace nf4bench {
namespace {

constexpr std::string_view kColumns =
    "op,dtype,m,n,k,blocksize,variant,config,workspace,before,microseconds,outcome,lines_left\n";
constexpr size_t kFields = 13;
using Outcome = Trial::Outcome;
constexpr std::string_view kOutcomes[] = {"timed", "dropped", "failed"};

std::string head_line(std::string_view device, std::string_view commit) {
  return nf4::formatted("# nf4-bench tune, device {}, commit {}\n", device, commit);
}

std::string lines_of(const Measured& measured) {
  std::string out;
  const Problem& p = measured.problem;
  size_t left = measured.trials.size();
  for (const Trial& trial : measured.trials) {
    out += nf4::formatted("{},{},{},{},{},{},{},{},{},{},{:.3f},{},{}\n", op_name(p.op), dtype_name(p.dtype), p.m, p.n,
                          p.k, p.blocksize, trial.choice.variant, trial.choice.config, int{trial.workspace},
                          int{trial.before}, trial.microseconds, kOutcomes[static_cast<size_t>(trial.outcome)], --left);
  }
  return out;
}

// The fields of one line; nothing if there are not as many as there should be.
std::optional<std::array<std::string_view, kFields>> split(std::string_view line) {
  std::array<std::string_view, kFields> out;
  for (size_t i = 0; i < kFields; ++i) {
    const size_t comma = line.find(',');
    if ((comma == std::string_view::npos) != (i + 1 == kFields)) return std::nullopt;
    out[i] = line.substr(0, comma);
    if (comma != std::string_view::npos) line.remove_prefix(comma + 1);
  }
  return out;
}

template <typename Number>
bool read_number(std::string_view text, Number& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

// The one of `values` whose name is `text`.
template <typename T, typename Name>
bool read_name(std::string_view text, std::span<const T> values, const Name& name, T& value) {
  const auto found = std::find_if(values.begin(), values.end(), [&](T candidate) { return text == name(candidate); });
  if (found == values.end()) return false;
  value = *found;
  return true;
}

struct Line {
  Problem problem;
  Trial trial;
  int64_t left = 0;
};

std::optional<Line> parse(std::string_view text) {
  const auto fields = split(text);
  if (!fields) return std::nullopt;
  const auto& [op, dtype, m, n, k, blocksize, variant, config, workspace, before, microseconds, outcome, left] =
      *fields;
  constexpr Outcome kAllOutcomes[] = {Outcome::timed, Outcome::dropped, Outcome::failed};
  const auto outcome_name = [](Outcome value) { return kOutcomes[static_cast<size_t>(value)]; };
  Line line;
  Problem& p = line.problem;
  line.trial.choice = {std::string(variant), std::string(config)};
  line.trial.workspace = workspace == "1";
  line.trial.before = before == "1";
  const bool valid = read_name<nf4_op_t>(op, kAllOps, op_name, p.op) &&
                     read_name<nf4_dtype_t>(dtype, kAllDtypes, dtype_name, p.dtype) && read_number(m, p.m) &&
                     read_number(n, p.n) && read_number(k, p.k) && read_number(blocksize, p.blocksize) &&
                     read_number(microseconds, line.trial.microseconds) &&
                     read_name<Outcome>(outcome, kAllOutcomes, outcome_name, line.trial.outcome) &&
                     read_number(left, line.left);
  return valid ? std::optional(line) : std::nullopt;
}

Problem nameless(Problem problem) {
  problem.layer.clear();
  problem.parts.clear();
  return problem;
}

}  // namespace

TuneState::TuneState(std::string path, std::string_view device, std::string_view commit) : path_(std::move(path)) {
  namespace fs = std::filesystem;
  if (fs::exists(path_) && !fs::is_regular_file(path_)) {
    throw std::runtime_error(path_ + " is no regular file; expected one, since a later run reads it");
  }
  const std::string head = head_line(device, commit);
  std::ifstream file(path_, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const OutputFile writable(path_, OutputFile::Mode::append);
  // A run that ends while it starts the file leaves a part of its first lines.
  const std::string start = head + std::string(kColumns);
  if (start.starts_with(text)) {
    OutputFile(path_).write(start);
    return;
  }
  if (!text.starts_with(start)) {
    throw std::runtime_error(
        nf4::formatted("{} holds no measurements of this device and commit; remove it to start anew. Expected: {}",
                       path_, head.substr(0, head.size() - 1)));
  }
  read(text, start);
}

void TuneState::read(std::string_view text, std::string_view head) {
  size_t complete = head.size();  // bytes up to the end of the last whole problem
  Measured current;
  for (size_t at = head.size(); at < text.size();) {
    const size_t end = text.find('\n', at);
    if (end == std::string_view::npos) break;
    const std::optional<Line> line = parse(text.substr(at, end - at));
    if (!line) throw std::runtime_error(nf4::formatted("{}: cannot read '{}'", path_, text.substr(at, end - at)));
    if (line->problem != current.problem) current = {line->problem, {}};
    current.trials.push_back(line->trial);
    at = end + 1;
    if (line->left > 0) continue;
    measured_.push_back(std::exchange(current, {}));
    complete = at;
  }
  if (complete < text.size()) std::filesystem::resize_file(path_, complete);
}

bool TuneState::has(const Problem& problem) const {
  const Problem wanted = nameless(problem);
  return std::any_of(measured_.begin(), measured_.end(), [&](const Measured& one) { return one.problem == wanted; });
}

void TuneState::append(const Measured& measured) {
  OutputFile file(path_, OutputFile::Mode::append);
  file.write(lines_of(measured));
  file.close();
  measured_.push_back({nameless(measured.problem), measured.trials});
}

}  // namespace nf4bench
