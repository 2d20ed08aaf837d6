#include "check.hpp"

#include <cstring>

#include "formatted.hpp"

namespace nf4bench {
namespace {

template <typename T>
std::vector<T> fetch(Device& device, const void* from, int64_t count) {
  std::vector<T> out(static_cast<size_t>(count));
  device.copy_out(out.data(), from, out.size() * sizeof(T));
  return out;
}

template <typename T>
int64_t count_differences(const std::vector<T>& found, const std::vector<T>& expected) {
  if (std::memcmp(found.data(), expected.data(), found.size() * sizeof(T)) == 0) return 0;
  int64_t count = 0;
  for (size_t i = 0; i < found.size(); ++i) count += std::memcmp(&found[i], &expected[i], sizeof(T)) != 0;
  return count;
}

int64_t count_code_differences(const std::vector<uint8_t>& found, const std::vector<uint8_t>& expected) {
  if (found == expected) return 0;
  int64_t count = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    const unsigned different = static_cast<unsigned>(found[i]) ^ expected[i];
    count += ((different & 0xf0u) != 0) + ((different & 0x0fu) != 0);
  }
  return count;
}

void run_poisoned(Workload& workload, Contender& contender, std::initializer_list<std::pair<void*, int64_t>> outputs) {
  for (const auto& [memory, bytes] : outputs) workload.device().poison(memory, static_cast<size_t>(bytes));
  workload.device().run([&](int set, nf4_stream_t stream) { contender.run(workload, set, stream); });
}

Check check_gemm(Workload& workload, Contender& contender) {
  const Problem& p = workload.problem();
  const int64_t bytes = p.slots() * p.outputs() * nf4ref::size_of(p.dtype);
  run_poisoned(workload, contender, {{workload.y(), bytes}});
  const auto y = fetch<unsigned char>(workload.device(), workload.y(), bytes);

  nf4ref::Verdict verdict(p.dtype, contender.accuracy_g(p));
  const std::vector<nf4ref::Reference>& references = workload.references();
  size_t next = 0;
  const std::vector<int64_t> parts = p.parts.empty() ? std::vector<int64_t>{p.outputs()} : p.parts;
  for (const int64_t row : workload.checked_rows()) {
    int64_t first = 0;  // outputs of the parts before
    for (const int64_t rows : parts) {
      for (int64_t n = 0; n < rows; ++n)
        verdict.add(nf4ref::load(y.data(), p.dtype, first + row * rows + n), references[next++]);
      first += p.slots() * rows;
    }
  }
  Check out;
  out.ok = verdict.ok();
  out.worst = verdict.worst();
  out.relative_error = verdict.relative_error();
  if (!out.ok) {
    out.what = nf4::formatted("{} of {} outputs are outside the bound; {}", verdict.violations(), verdict.count(),
                              verdict.first_violation());
  }
  return out;
}

Check differences(int64_t count, int64_t allowed, std::string what) {
  Check out;
  out.differences = count;
  out.ok = count <= allowed;
  if (!out.ok) out.what = std::move(what);
  return out;
}

Check check_unpack(Workload& workload, Contender& contender) {
  const Problem& p = workload.problem();
  run_poisoned(workload, contender, {{workload.dense(0), p.elements() * nf4ref::size_of(p.dtype)}});
  const int64_t wrong = workload.device().unpack_mismatches(workload.dense(0), p.dtype, workload.weight(0));
  return differences(wrong, 0, nf4::formatted("{} of {} elements differ from fp32 arithmetic", wrong, p.elements()));
}

// bitsandbytes divides by an approximate reciprocal: next to a midpoint, once in many thousand weights, its code may
// differ.
Check check_pack(Workload& workload, Contender& contender) {
  const Problem& p = workload.problem();
  run_poisoned(workload, contender, {{workload.codes(0), p.code_bytes()}, {workload.scales(0), p.blocks() * 4}});
  const Packed& expected = workload.expected();
  Device& device = workload.device();
  const int64_t scales = count_differences(fetch<float>(device, workload.scales(0), p.blocks()), expected.absmax);
  const int64_t codes =
      count_code_differences(fetch<uint8_t>(device, workload.codes(0), p.code_bytes()), expected.codes);
  const int64_t allowed = contender.is_peer() ? p.elements() / 10000 : 0;
  if (scales != 0) return differences(scales, 0, nf4::formatted("{} of {} absmax differ", scales, p.blocks()));
  return differences(codes, allowed, nf4::formatted("{} of {} codes differ", codes, p.elements()));
}

Check check_pack_absmax(Workload& workload, Contender& contender) {
  const Problem& p = workload.problem();
  run_poisoned(workload, contender,
               {{workload.scales(0), p.blocks()}, {workload.scales2(0), p.groups() * 4}, {workload.offset(), 4}});
  const Packed& expected = workload.expected();
  Device& device = workload.device();
  const int64_t wrong = count_differences(fetch<uint8_t>(device, workload.scales(0), p.blocks()), expected.codes) +
                        count_differences(fetch<float>(device, workload.scales2(0), p.groups()), expected.absmax) +
                        count_differences(fetch<float>(device, workload.offset(), 1), {expected.offset});
  return differences(wrong, 0, nf4::formatted("{} values differ from the host backend's", wrong));
}

Check check_unpack_absmax(Workload& workload, Contender& contender) {
  const Problem& p = workload.problem();
  run_poisoned(workload, contender, {{workload.absmax(0), p.blocks() * 4}});
  Device& device = workload.device();
  const auto found = fetch<float>(device, workload.absmax(0), p.blocks());
  const auto codes = fetch<uint8_t>(device, workload.scales(0), p.blocks());
  const auto scales2 = fetch<float>(device, workload.scales2(0), p.groups());
  const auto map = fetch<float>(device, workload.map(), 256);
  const auto offset = fetch<float>(device, workload.offset(), 1);
  nf4_weight_t on_host = workload.weight(0);
  on_host.absmax = codes.data();
  on_host.absmax2 = scales2.data();
  on_host.absmax_map = map.data();
  on_host.absmax_offset = offset.data();
  std::vector<float> expected(found.size());
  for (size_t i = 0; i < expected.size(); ++i) expected[i] = nf4ref::absmax_at(on_host, static_cast<int64_t>(i));
  const int64_t wrong = count_differences(found, expected);
  return differences(wrong, 0, nf4::formatted("{} of {} scales differ", wrong, p.blocks()));
}

}  // namespace

Check check_result(Workload& workload, Contender& contender) {
  switch (workload.problem().op) {
    case NF4_OP_GEMM:
    case NF4_OP_GEMM_EXPERTS:
    case NF4_OP_GEMM_TRANSPOSED:
      return check_gemm(workload, contender);
    case NF4_OP_UNPACK:
      return check_unpack(workload, contender);
    case NF4_OP_PACK:
      return check_pack(workload, contender);
    case NF4_OP_PACK_ABSMAX:
      return check_pack_absmax(workload, contender);
    default:
      return check_unpack_absmax(workload, contender);
  }
}

}  // namespace nf4bench
