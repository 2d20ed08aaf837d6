#include "options.hpp"

#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <numeric>
#include <span>
#include <stdexcept>

#include "build.hpp"
#include "formatted.hpp"

namespace nf4bench {
namespace {

constexpr const char* kAbout = "nf4-bench: checks and times the operations of libnf4 and of its peers";
constexpr const char* kPromise =
    R"(Every result is checked against a float64 reference, or bit for bit, before it is timed. A wrong one is reported as
FAILED and makes the exit status 1; what cannot be done makes it 2.)";

// ---- values ---------------------------------------------------------------------------------------------------------

std::vector<std::string> split(const std::string& text, char separator = ',') {
  std::vector<std::string> out;
  size_t begin = 0;
  while (true) {
    const size_t end = text.find(separator, begin);
    out.push_back(text.substr(begin, end - begin));
    if (end == std::string::npos) return out;
    begin = end + 1;
  }
}

[[noreturn]] void reject(const std::string& option, const std::string& value, std::string_view expected) {
  throw std::invalid_argument(nf4::formatted("{} is {}; expected {}", option, value.empty() ? "''" : value, expected));
}

std::string path(const std::string& option, const std::string& text) {
  if (text.empty()) reject(option, text, "a path");
  return text;
}

int64_t number(const std::string& option, const std::string& text, int64_t least, int64_t most) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < least || value > most) {
    reject(option, text, nf4::formatted("a number from {} to {}", least, most));
  }
  return value;
}

int64_t rows_of_x(const std::string& option, const std::string& text) { return number(option, text, 1, 65535); }

int32_t blocksize(const std::string& option, const std::string& text) {
  const int64_t value = number(option, text, 32, 4096);
  if ((value & (value - 1)) != 0) reject(option, text, "a power of two from 32 to 4096");
  return static_cast<int32_t>(value);
}

// Looks a value up by its name.
template <typename T>
T named(const std::string& option, const std::string& text, std::span<const T> values, std::string_view (*name)(T)) {
  std::vector<std::string_view> known;
  for (const T value : values) {
    if (text == name(value)) return value;
    known.push_back(name(value));
  }
  reject(option, text, nf4::formatted("{}", fmt::join(known, ", ")));
}

nf4_dtype_t dtype(const std::string& option, const std::string& text) {
  return named<nf4_dtype_t>(option, text, kAllDtypes, dtype_name);
}

nf4_op_t any_op(const std::string& option, const std::string& text) {
  return named<nf4_op_t>(option, text, kAllOps, op_name);
}

// Rows of the table hold for plain weights, of which the scales' operations know nothing.
nf4_op_t tuned_op(const std::string& option, const std::string& text) {
  constexpr nf4_op_t kTuned[] = {NF4_OP_GEMM, NF4_OP_UNPACK, NF4_OP_PACK};
  return named<nf4_op_t>(option, text, kTuned, op_name);
}

std::string model(const std::string& option, const std::string& text) {
  const auto layers_of_it = [&](const Layer& layer) { return layer.model == text; };
  if (text != "all" && text != kHeldOut && std::none_of(layers().begin(), layers().end(), layers_of_it)) {
    reject(option, text, "llama, qwen, gemma, all or heldout");
  }
  return text;
}

// "N,K" or "N1+N2,K"
Layer shape(const std::string& option, const std::string& text) {
  constexpr int64_t kMostSize = int64_t{1} << 31;
  constexpr int64_t kMostParts = 1024;
  constexpr int64_t kMostWeights = int64_t{1} << 40;
  const std::vector<std::string> sizes = split(text);
  if (sizes.size() != 2) reject(option, text, "N,K");
  Layer layer{"", "", 0, number(option, sizes[1], 1, kMostSize)};
  for (const std::string& rows : split(sizes[0], '+')) layer.parts.push_back(number(option, rows, 1, kMostSize));
  if (layer.parts.size() > kMostParts) reject(option, text, nf4::formatted("{} parts at most", kMostParts));
  layer.n = std::accumulate(layer.parts.begin(), layer.parts.end(), int64_t{0});
  if (layer.n > kMostWeights / layer.k) reject(option, text, "2^40 weights at most");
  if (layer.parts.size() == 1) layer.parts.clear();
  return layer;
}

RoutingForm routing_form(const std::string& option, const std::string& text) {
  for (const RoutingForm form : kRoutingForms) {
    if (text == form_name(form)) return form;
  }
  reject(option, text, "ids, sorted or rows");
}

std::string variant(const std::string& option, const std::string& text) {
  if (text.empty()) reject(option, text, "names; nf4-bench variants lists them");
  return text;
}

// ---- options, as several commands take them -------------------------------------------------------------------------

constexpr const char* kWhat = "What to measure";
constexpr const char* kWhere = "Where and beside whom";
constexpr const char* kResults = "Results";

template <typename T>
using Reader = T (*)(const std::string& option, const std::string& text);

// An option of one value. If it is given again, the last one counts.
template <typename T, typename Target>
CLI::Option* add_value(CLI::App& app, const std::string& name, const char* type, Target& target, Reader<T> read,
                       const char* about) {
  const auto take = [name, &target, read](const std::string& text) { target = read(name, text); };
  return app.add_option_function<std::string>(name, take, about)
      ->type_name(type)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
}

// An option of values with commas between them.
template <typename T>
CLI::Option* add_list(CLI::App& app, const std::string& name, std::vector<T>& target, Reader<T> read,
                      const char* about) {
  const auto take = [name, &target, read](const std::string& text) {
    target.clear();
    for (const std::string& item : split(text)) target.push_back(read(name, item));
  };
  return app.add_option_function<std::string>(name, take, about)
      ->type_name("LIST")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
}

CLI::Option* add_path(CLI::App& app, const std::string& name, std::string& target, const char* about) {
  return add_value<std::string>(app, name, "FILE", target, path, about);
}

void add_device(CLI::App& app, DeviceOption& target) {
  const auto read = [](const std::string& option, const std::string& text) {
    return text == "host" ? NF4_HOST_DEVICE : static_cast<int32_t>(number(option, text, 0, 1023));
  };
  add_value<int32_t>(app, "--device", "N|host", target.ordinal, read, "(CUDA device 0 if there is one, else the host)")
      ->group(kWhere);
  const auto capability = [](const std::string& option, const std::string& text) {
    if (text.empty()) reject(option, text, "a compute capability, 8.6 for example");
    return text;
  };
  add_value<std::string>(app, "--as", "X.Y", target.as, capability,
                         "run as an older device: with variants, shared memory and clusters of that\n"
                         "compute capability (NF4_COMPUTE_CAPABILITY)")
      ->group(kWhere);
}

void add_variants(CLI::App& app, std::vector<std::string>& target, const char* about) {
  add_list(app, "--variant", target, variant, about)->group(kWhat);
}

void add_shapes(CLI::App& app, SuiteOptions& suite) {
  const auto take = [&suite](const std::vector<std::string>& texts) {
    for (const std::string& text : texts) suite.shapes.push_back(shape("--shape", text));
  };
  app.add_option_function<std::vector<std::string>>(
         "--shape", take, "W has N rows and K columns; may be repeated. N1+N2,K: two W that multiply the same x")
      ->type_name("N,K")
      ->allow_extra_args(false)
      ->group(kWhat);
}

void add_suite(CLI::App& app, SuiteOptions& suite) {
  add_list(app, "--model", suite.models, model,
           "llama, qwen, gemma or all: linear layers of Llama-3.3-70B, Qwen3-32B,\n"
           "Gemma-3-27B (all on a GPU; on the host one layer of 1024x4096);\n"
           "heldout: 20 layers of others, on which the tuning table does not rest;\n"
           "with regret the default on a GPU")
      ->group(kWhat);
  add_shapes(app, suite);
  add_list(app, "--m", suite.m, rows_of_x,
           "rows of x in a gemm (1; with tune and --sweep full 1 to 1024;\n"
           "with regret 1,8,48,100,256,1024)")
      ->group(kWhat);
  add_list(app, "--dtype", suite.dtypes, dtype, "f32, f16, bf16 (bf16; with --sweep full bf16,f16)")->group(kWhat);
  add_list(app, "--blocksize", suite.blocksizes, blocksize, "32 to 4096 (64)")->group(kWhat);
}

void add_groups(CLI::App& app, SuiteOptions& suite) {
  app.add_flag("--groups", suite.groups,
               "the models' layers that multiply the same x (q+k+v, gate+up) in place of single layers")
      ->group(kWhat);
}

void add_nested(CLI::App& app, SuiteOptions& suite) {
  app.add_flag("--nested", suite.nested, "8-bit scales with second-level scales")->group(kWhat);
}

void add_experts(CLI::App& app, SuiteOptions& suite) {
  const auto count = [](const std::string& option, const std::string& text) { return number(option, text, 1, 4096); };
  const auto tenths = [](const std::string& option, const std::string& text) {
    return static_cast<double>(number(option, text, 0, 100)) / 10;
  };
  add_value<int64_t>(app, "--experts", "E", suite.experts, count,
                     "gemm_experts: experts, each W of N rows and K columns")
      ->group(kWhat);
  add_value<int64_t>(app, "--top-k", "N", suite.top_k, count, "gemm_experts: experts of each row of x (1)")
      ->group(kWhat);
  add_value<double>(app, "--skew", "TENTHS", suite.skew, tenths,
                    "gemm_experts: expert e is drawn with weight (e + 1)^-(TENTHS / 10) (0: all alike)")
      ->group(kWhat);
  add_value<RoutingForm>(app, "--routing", "FORM", suite.form, routing_form,
                         "gemm_experts: ids; sorted, by order and ends; or rows, by ends alone,\n"
                         "for slots that lie in the order of their experts (ids)")
      ->group(kWhat);
}

void add_limit(CLI::App& app, double& target) {
  const auto read = [](const std::string& option, const std::string& text) {
    return static_cast<double>(number(option, text, 0, 1000000));
  };
  add_value<double>(app, "--limit", "SECONDS", target, read, "begin no other problem after that long")->group(kWhat);
}

template <typename Options>
void add_files(CLI::App& app, Options& options) {
  add_path(app, "--csv", options.csv, "a row for each result; facts about the run in comments")->group(kResults);
  add_path(app, "--json", options.json, "JSON Lines: an object about the run, then one for each result as it comes")
      ->group(kResults);
}

void add_commit(CLI::App& app, std::string& target) {
  target = built_commit();
  const auto read = [](const std::string&, const std::string& text) { return text; };
  add_value<std::string>(app, "--commit", "TEXT", target, read, "recorded with the results (the commit that was built)")
      ->group(kResults);
}

// ---- commands -------------------------------------------------------------------------------------------------------

void add_sweep(CLI::App& app, SweepOptions& options) {
  const auto full = [](const std::string& option, const std::string& text) {
    if (text != "full") reject(option, text, "full");
    return true;
  };
  add_value<bool>(app, "--sweep", "full", options.suite.full, full,
                  "what the library selects and its peers, on all that matters; takes minutes")
      ->group(kWhat);
  add_list(app, "--op", options.suite.ops, any_op,
           "gemm, unpack, pack, pack_absmax, unpack_absmax, gemm_experts, gemm_transposed\n"
           "(gemm,unpack,pack)")
      ->group(kWhat);
  add_suite(app, options.suite);
  add_groups(app, options.suite);
  add_experts(app, options.suite);
  add_nested(app, options.suite);
  add_variants(app, options.variants, "these variants alone; \"selected\" is what the library chooses");
  app.add_flag("--hot", options.hot,
               "the same weights in every launch; without it, launches rotate through\n"
               "more memory than caches hold")
      ->group(kWhat);
  app.add_flag("--pending", options.pending,
               "weights not marked NF4_WEIGHT_CONSTANT, as if the stream might still write them")
      ->group(kWhat);
  add_limit(app, options.limit);
  add_device(app, options.device);
  add_path(app, "--peer", options.peers.bitsandbytes, "libbitsandbytes_cuda*.so")->group(kWhere);
  add_path(app, "--cublas", options.peers.cublas, "libcublas.so.*, if the loader does not find it")->group(kWhere);
  add_files(app, options);
  add_commit(app, options.commit);
}

void add_tune(CLI::App& app, TuneOptions& options) {
  constexpr const char* kMade = "What it makes";
  add_list(app, "--op", options.suite.ops, tuned_op, "gemm, unpack, pack (all)")->group(kWhat);
  add_suite(app, options.suite);
  add_groups(app, options.suite);
  add_variants(app, options.variants, "these variants alone");
  add_limit(app, options.limit);
  add_path(app, "--state", options.state, "measurements, by which a later run goes on (nf4-tune.csv)")->group(kMade);
  add_path(app, "--table", options.table, "the table (nf4-tuning.csv)")->group(kMade);
  add_path(app, "--builtin", options.builtin,
           "the table for all of the device's compute capability, as src/tuning_builtin.csv")
      ->group(kMade);
  add_device(app, options.device);
  add_commit(app, options.commit);
}

void add_regret(CLI::App& app, RegretOptions& options) {
  add_list(app, "--op", options.suite.ops, any_op,
           "gemm, unpack, pack, pack_absmax, unpack_absmax, gemm_experts, gemm_transposed\n(gemm)")
      ->group(kWhat);
  add_suite(app, options.suite);
  add_experts(app, options.suite);
  add_nested(app, options.suite);
  add_limit(app, options.limit);
  add_device(app, options.device);
  add_files(app, options);
  add_commit(app, options.commit);
}

void add_model(CLI::App& app, ModelOptions& options) {
  add_value<std::string>(app, "path", "PATH", options.path, path,
                         "a safetensors file, a model.safetensors.index.json, or a folder that holds one")
      ->required();
  add_value<int32_t>(app, "--blocksize", "N", options.blocksize, blocksize, "of what is packed, 32 to 4096 (64)")
      ->group(kWhat);
  app.add_flag("--details", options.details, "matrices by their names, and every variant")->group(kWhat);
  add_variants(app, options.variants, "these variants alone; \"selected\" is what the library chooses");
  add_device(app, options.device);
}

void add_variants_command(CLI::App& app, VariantsOptions& options, Problem& problem) {
  add_list(app, "--op", options.ops, any_op,
           "gemm, unpack, pack, pack_absmax, unpack_absmax, gemm_experts,\ngemm_transposed (all)")
      ->group(kWhat);
  const auto take = [&problem](const std::string& text) {
    const Layer layer = shape("--shape", text);
    problem.n = layer.n;
    problem.k = layer.k;
  };
  CLI::Option* const of_shape = app.add_option_function<std::string>(
      "--shape", take, "tells of each variant whether the device can run it on W of N rows and K columns");
  of_shape->type_name("N,K")->multi_option_policy(CLI::MultiOptionPolicy::TakeLast)->group(kWhat);
  for (CLI::Option* option :
       {add_value<int64_t>(app, "--m", "M", problem.m, rows_of_x, "rows of x in a gemm (1)"),
        add_value<nf4_dtype_t>(app, "--dtype", "TYPE", problem.dtype, dtype, "f32, f16 or bf16 (bf16)"),
        add_value<int32_t>(app, "--blocksize", "N", problem.blocksize, blocksize, "32 to 4096 (64)"),
        app.add_flag("--nested", problem.nested, "8-bit scales with second-level scales")}) {
    option->needs(of_shape)->group(kWhat);
  }
  add_device(app, options.device);
}

// `nf4-bench [options]` is `nf4-bench sweep [options]`. In the order that CLI11 wants, the last one first.
std::vector<std::string> arguments_of(const CLI::App& app, int argc, const char* const* argv) {
  std::vector<std::string> out(argv + std::min(argc, 1), argv + argc);
  const bool of_program = !out.empty() && (out[0] == "--help" || out[0] == "-h" || out[0] == "--version");
  const bool names_command = !out.empty() && !out[0].starts_with('-');
  const auto named = [&](const CLI::App* command) { return command->get_name() == out[0]; };
  if (names_command && app.get_subcommands(named).empty()) {
    reject("the command", out[0], "sweep, tune, regret, model or variants");
  }
  if (!of_program && !names_command) out.insert(out.begin(), "sweep");
  std::reverse(out.begin(), out.end());
  return out;
}

}  // namespace

Command parse_command(int argc, const char* const* argv) {
  SweepOptions sweep;
  TuneOptions tune;
  RegretOptions regret;
  ModelOptions model;
  VariantsOptions variants;
  Problem problem;

  CLI::App app(kAbout, "nf4-bench");
  app.require_subcommand(1);
  app.get_formatter()->column_width(34);
  app.set_version_flag("--version", nf4::formatted("nf4-bench {}, commit {}", library_version(), built_commit()));
  CLI::App& for_sweep =
      *app.add_subcommand("sweep", "measures shapes by variants and peers; the command if none is named");
  CLI::App& for_tune =
      *app.add_subcommand("tune", "tries every variant and config, and writes a tuning table of the fastest");
  CLI::App& for_regret =
      *app.add_subcommand("regret", "measures how far what the library selects is behind the best variant and config");
  CLI::App& for_model = *app.add_subcommand("model", "packs, unpacks and multiplies the weights of a checkpoint");
  CLI::App& for_variants = *app.add_subcommand("variants", "lists the library's variants, and what they can run");
  add_sweep(for_sweep, sweep);
  add_tune(for_tune, tune);
  add_regret(for_regret, regret);
  add_model(for_model, model);
  add_variants_command(for_variants, variants, problem);

  for (CLI::App* command : {&for_sweep, &for_tune, &for_regret, &for_model}) command->footer(kPromise);

  try {
    app.parse(arguments_of(app, argc, argv));
  } catch (const CLI::CallForHelp&) {
    const std::string of_default = app.get_subcommands().empty() ? "\n" + for_sweep.help(app.get_name()) : "";
    return Text{app.help() + of_default};
  } catch (const CLI::CallForVersion& version) {
    return Text{version.what() + std::string("\n")};
  } catch (const CLI::ExtrasError&) {
    const CLI::App& command = *app.get_subcommands().front();
    throw std::invalid_argument(nf4::formatted("{0} takes no {1}; nf4-bench {0} --help tells what it takes",
                                               command.get_name(), command.remaining().front()));
  } catch (const CLI::ParseError& error) {
    throw std::invalid_argument(error.what());
  }

  if (for_tune.parsed()) {
    if (for_tune.count("--m") == 0) tune.suite.m = kAllM;
    return tune;
  }
  if (for_regret.parsed()) return regret;
  if (for_model.parsed()) return model;
  if (for_variants.parsed()) {
    if (for_variants.count("--shape") > 0) {
      variants.problem = problem;
      std::erase(variants.ops, NF4_OP_GEMM_EXPERTS);  // a shape is of one W
    }
    return variants;
  }
  if (sweep.suite.full) {
    if (for_sweep.count("--m") == 0) sweep.suite.m = kAllM;
    if (for_sweep.count("--dtype") == 0) sweep.suite.dtypes = {NF4_BF16, NF4_F16};
    if (sweep.variants.empty()) sweep.variants = {kSelected};
  }
  return sweep;
}

}  // namespace nf4bench
