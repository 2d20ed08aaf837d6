#include "options.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <functional>
#include <limits>
#include <map>
#include <numeric>
#include <stdexcept>

namespace nf4bench {

const char* const kHelp = R"(nf4-bench: checks and times the operations of libnf4 and of its peers

  nf4-bench [options]                    sweep over shapes
  nf4-bench --sweep full [options]       what the library selects and its peers, on all that matters; takes minutes
  nf4-bench tune [options]               tries every variant and config, and writes a tuning table of the fastest
  nf4-bench model FILE.safetensors       pack, unpack and multiply a file's weights (takes --blocksize and --device)

What to measure
  --op LIST           gemm, unpack, pack, pack_absmax, unpack_absmax    (gemm,unpack,pack)
  --model LIST        llama, qwen, gemma or all: linear layers of Llama-3.3-70B, Qwen3-32B, Gemma-3-27B
                      (all on a GPU; on the host one layer of 1024x4096)
  --shape N,K         W has N rows and K columns; may be repeated. N1+N2,K: two W that multiply the same x
  --groups            the models' layers that multiply the same x (q+k+v, gate+up) in place of single layers
  --m LIST            rows of x in a gemm                               (1; with tune and --sweep full 1 to 1024)
  --dtype LIST        f32, f16, bf16                                    (bf16; with --sweep full bf16,f16)
  --blocksize LIST    32 to 4096                                        (64)
  --nested            8-bit scales with second-level scales
  --variant LIST      these variants alone; "selected" is what the library chooses
  --hot               the same weights in every launch; without it, launches rotate through more memory than caches hold
  --pending           weights not marked NF4_WEIGHT_CONSTANT, as if the stream might still write them
  --limit SECONDS     begin no other problem after that long

What tune makes
  --state FILE        measurements, by which a later run goes on        (nf4-tune.csv)
  --table FILE        the table                                         (nf4-tuning.csv)
  --builtin FILE      the table for all of the device's compute capability, as src/tuning_builtin.csv

Where and beside whom
  --device N|host     (CUDA device 0 if there is one, else the host)
  --peer PATH         libbitsandbytes_cuda*.so
  --cublas PATH       libcublas.so.*, if the loader does not find it

Results (a table on the terminal; progress on stderr)
  --csv FILE
  --json FILE
  --commit TEXT       recorded with the results                         (the commit that was built)

Every result is checked against a float64 reference, or bit for bit, before it is timed. A wrong one is reported as
FAILED and makes the exit status 1.
)";

namespace {

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
  throw std::invalid_argument(fmt::format("{} {}: expected {}", option, value, expected));
}

int64_t number(const std::string& option, const std::string& text, int64_t least, int64_t most) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < least || value > most) {
    reject(option, text, fmt::format("numbers of {} to {}", least, most));
  }
  return value;
}

template <typename T>
std::vector<T> numbers(const std::string& option, const std::string& text, int64_t least, int64_t most) {
  std::vector<T> out;
  for (const std::string& item : split(text)) out.push_back(static_cast<T>(number(option, item, least, most)));
  return out;
}

// Looks each item of a list up by its name.
template <typename T>
std::vector<T> named(const std::string& option, const std::string& text, std::initializer_list<T> values,
                     std::string_view (*name)(T)) {
  std::vector<T> out;
  for (const std::string& item : split(text)) {
    std::string known;
    const size_t before = out.size();
    for (const T value : values) {
      if (item == name(value)) out.push_back(value);
      known += (known.empty() ? "" : ", ") + std::string(name(value));
    }
    if (out.size() == before) reject(option, item, known);
  }
  return out;
}

Layer shape(const std::string& option, const std::string& text) {
  constexpr int64_t kMost = int64_t{1} << 31;
  const std::vector<std::string> sizes = split(text);
  if (sizes.size() != 2) reject(option, text, "N,K");
  std::vector<int64_t> parts;
  for (const std::string& rows : split(sizes[0], '+')) parts.push_back(number(option, rows, 1, kMost));
  const int64_t n = std::accumulate(parts.begin(), parts.end(), int64_t{0});
  if (parts.size() == 1) parts.clear();
  return {"", "", n, number(option, sizes[1], 1, kMost), parts};
}

std::vector<std::string> models(const std::string& option, const std::string& text) {
  std::vector<std::string> out = split(text);
  for (const std::string& item : out) {
    bool known = item == "all";
    for (const Layer& layer : layers()) known = known || layer.model == item;
    if (!known) reject(option, item, "llama, qwen, gemma or all");
  }
  return out;
}

}  // namespace

Options parse_options(int argc, const char* const* argv) {
  Options options;
  const std::map<std::string, std::function<void()>> flags = {
      {"--help", [&] { options.help = true; }},       {"-h", [&] { options.help = true; }},
      {"--nested", [&] { options.nested = true; }},   {"--hot", [&] { options.hot = true; }},
      {"--pending", [&] { options.pending = true; }}, {"--groups", [&] { options.groups = true; }},
  };
  using Setter = std::function<void(const std::string& option, const std::string& value)>;
  const std::map<std::string, Setter> settings = {
      {"--op",
       [&](auto& option, auto& value) {
         options.ops = named<nf4_op_t>(
             option, value, {NF4_OP_GEMM, NF4_OP_UNPACK, NF4_OP_PACK, NF4_OP_PACK_ABSMAX, NF4_OP_UNPACK_ABSMAX},
             op_name);
       }},
      {"--model", [&](auto& option, auto& value) { options.models = models(option, value); }},
      {"--shape", [&](auto& option, auto& value) { options.shapes.push_back(shape(option, value)); }},
      {"--m", [&](auto& option, auto& value) { options.m = numbers<int64_t>(option, value, 1, 65535); }},
      {"--dtype",
       [&](auto& option, auto& value) {
         options.dtypes = named<nf4_dtype_t>(option, value, {NF4_F32, NF4_F16, NF4_BF16}, dtype_name);
       }},
      {"--blocksize",
       [&](auto& option, auto& value) { options.blocksizes = numbers<int32_t>(option, value, 32, 4096); }},
      {"--variant", [&](auto&, auto& value) { options.variants = split(value); }},
      {"--sweep",
       [&](auto& option, auto& value) {
         if (value != "full") reject(option, value, "full");
         options.sweep = Options::Sweep::full;
       }},
      {"--limit",
       [&](auto& option, auto& value) { options.limit = static_cast<double>(number(option, value, 0, 1000000)); }},
      {"--state", [&](auto&, auto& value) { options.state = value; }},
      {"--table", [&](auto&, auto& value) { options.table = value; }},
      {"--builtin", [&](auto&, auto& value) { options.builtin = value; }},
      {"--device",
       [&](auto& option, auto& value) {
         options.device = value == "host" ? NF4_HOST_DEVICE : static_cast<int32_t>(number(option, value, 0, 1023));
       }},
      {"--peer", [&](auto&, auto& value) { options.peers.bitsandbytes = value; }},
      {"--cublas", [&](auto&, auto& value) { options.peers.cublas = value; }},
      {"--csv", [&](auto&, auto& value) { options.csv = value; }},
      {"--json", [&](auto&, auto& value) { options.json = value; }},
      {"--commit", [&](auto&, auto& value) { options.commit = value; }},
  };

  int i = 1;
  if (argc > 1 && std::string(argv[1]) == "model") {
    if (argc < 3) throw std::invalid_argument("model: expected a safetensors file");
    options.model_file = argv[2];
    i = 3;
  } else if (argc > 1 && std::string(argv[1]) == "tune") {
    options.tune = true;
    i = 2;
  }
  for (; i < argc; ++i) {
    const std::string option = argv[i];
    if (const auto flag = flags.find(option); flag != flags.end()) {
      flag->second();
    } else if (const auto setting = settings.find(option); setting != settings.end()) {
      if (i + 1 == argc) throw std::invalid_argument(option + ": expected a value");
      setting->second(option, argv[++i]);
    } else {
      throw std::invalid_argument(option + ": unknown option; see --help");
    }
  }
  const bool full = options.sweep == Options::Sweep::full;
  if (full && options.variants.empty()) options.variants = {"selected"};
  if (options.tune && (options.nested || options.hot || options.pending)) {
    throw std::invalid_argument("tune: rows are by cold, constant weights with fp32 scales; see --help");
  }
  const bool of_absmax = std::any_of(options.ops.begin(), options.ops.end(), [](nf4_op_t op) {
    return op == NF4_OP_PACK_ABSMAX || op == NF4_OP_UNPACK_ABSMAX;
  });
  if (options.tune && of_absmax) throw std::invalid_argument("tune: expected --op gemm, unpack or pack");
  return options;
}

}  // namespace nf4bench
