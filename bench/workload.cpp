#include "workload.hpp"

#include <algorithm>

#include "routing.hpp"
#include "status.hpp"

namespace nf4bench {
namespace {

constexpr int64_t kAlignment = 256;
constexpr int64_t kMostSets = 1024;  // a graph of more launches takes longer to build than to time

int64_t aligned(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

bool has_codes(nf4_op_t op) { return is_product(op) || op == NF4_OP_PACK || op == NF4_OP_UNPACK; }

}  // namespace

Pool::Pool(Device& device, int64_t piece_bytes, int64_t pieces)
    : stride_(aligned(piece_bytes)), pieces_(pieces), buffer_(device, static_cast<size_t>(stride_ * pieces)) {}

Workload::Workload(Device& device, nf4_handle_t handle, const Problem& problem, bool hot, bool pending)
    : device_(device), handle_(handle), problem_(problem), pending_(pending), sets_(count_sets(hot)) {
  const nf4_op_t op = problem.op;
  const int64_t element = nf4ref::size_of(problem.dtype);
  make_scales();
  if (has_codes(op)) {
    codes_ = Pool(device, problem.code_bytes(), sets_);
    device.fill_bytes(codes_.at(0), codes_.bytes(), 1);
  } else {
    absmax_ = Pool(device, problem.blocks() * 4, sets_);
    device.fill_uniform(absmax_.at(0), NF4_F32, absmax_.bytes() / 4, 0.01f, 0.05f, 2);
  }
  if (op == NF4_OP_PACK || op == NF4_OP_UNPACK) {
    dense_ = Pool(device, problem.elements() * element, sets_);
    device.fill_uniform(dense_.at(0), problem.dtype, dense_.bytes() / element, -0.05f, 0.05f, 3);
  }
  if (is_product(op)) {
    x_ = Buffer(device, static_cast<size_t>(problem.m * problem.length() * element));
    y_ = Buffer(device, static_cast<size_t>(problem.slots() * problem.outputs() * element));
    device.fill_uniform(x_.get(), problem.dtype, problem.m * problem.length(), -1.0f, 1.0f, 4);
  }
  if (op == NF4_OP_GEMM_EXPERTS) make_routing();
}

void Workload::make_routing() {
  const auto copied = [&](const auto& values) {
    Buffer buffer(device_, values.size() * sizeof values.front());
    device_.copy_in(buffer.get(), values.data(), buffer.bytes());
    return buffer;
  };
  if (problem_.form == RoutingForm::ids) {
    ids_ = copied(routed_experts(problem_));
    return;
  }
  const SortedSlots sorted = sorted_slots(problem_);
  ends_ = copied(sorted.ends);
  if (problem_.form == RoutingForm::sorted) order_ = copied(sorted.order);
}

int Workload::count_sets(bool hot) const {
  if (hot) return 1;
  double bytes = minimal_bytes(problem_);
  if (problem_.op == NF4_OP_GEMM || problem_.op == NF4_OP_GEMM_TRANSPOSED)
    bytes = static_cast<double>(problem_.code_bytes() + scale_bytes(problem_));
  const auto sets = static_cast<int64_t>(static_cast<double>(device_.cold_bytes()) / std::max(bytes, 1.0)) + 1;
  return static_cast<int>(std::clamp<int64_t>(sets, 2, kMostSets));
}

void Workload::make_scales() {
  if (!problem_.nested) {
    scales_ = Pool(device_, problem_.blocks() * 4, sets_);
    device_.fill_uniform(scales_.at(0), NF4_F32, scales_.bytes() / 4, 0.01f, 0.05f, 5);
    return;
  }
  scales_ = Pool(device_, problem_.blocks(), sets_);
  device_.fill_bytes(scales_.at(0), scales_.bytes(), 5);
  scales2_ = Pool(device_, problem_.groups() * 4, sets_);
  device_.fill_uniform(scales2_.at(0), NF4_F32, scales2_.bytes() / 4, 0.005f, 0.02f, 6);
  map_ = Buffer(device_, 256 * 4);
  float values[256];
  check(nf4_dynamic_map(values));
  device_.copy_in(map_.get(), values, sizeof values);
  offset_ = Buffer(device_, 4);
  const float offset = 0.03f;  // above every absmax2, so that scales are positive
  device_.copy_in(offset_.get(), &offset, sizeof offset);
}

void Workload::take_dense(const void* source) {
  const Problem& p = problem_;
  const auto bytes = static_cast<size_t>(p.elements() * nf4ref::size_of(p.dtype));
  if (p.op == NF4_OP_PACK) {
    for (int i = 0; i < sets_; ++i) device_.copy_in(dense_.at(i), source, bytes);
    return;
  }
  const Buffer input(device_, bytes);
  const Pool absmax(device_, p.blocks() * 4, 1);
  device_.copy_in(input.get(), source, bytes);
  for (int i = 0; i < sets_; ++i) {
    device_.run([&](int, nf4_stream_t stream) {
      float* const first_level = p.nested ? absmax.at<float>(0) : scales_.at<float>(i);
      check(
          nf4_pack(handle_, codes(i), first_level, input.get(), p.k, p.dtype, p.n, p.k, p.blocksize, nullptr, stream));
      if (!p.nested) return;
      check(nf4_pack_absmax(handle_, scales_.at<uint8_t>(i), scales2(i), offset(), first_level, p.blocks(), map(),
                            p.absmax_blocksize, nullptr, stream));
    });
  }
}

void Workload::take_packed(const nf4_weight_t& source) {
  const Problem& p = problem_;
  for (int i = 0; i < sets_; ++i) {
    device_.copy_in(codes(i), source.codes, static_cast<size_t>(p.code_bytes()));
    device_.copy_in(scales(i), source.absmax, static_cast<size_t>(p.blocks() * (p.nested ? 1 : 4)));
    if (p.nested) device_.copy_in(scales2(i), source.absmax2, static_cast<size_t>(p.groups() * 4));
  }
  if (!p.nested) return;
  device_.copy_in(map(), source.absmax_map, 256 * sizeof(float));
  device_.copy_in(offset(), source.absmax_offset, sizeof(float));
}

nf4_weight_t Workload::weight(int set) const {
  nf4_weight_t out = NF4_WEIGHT_INIT;
  out.rows = problem_.elements() / problem_.k;
  out.cols = problem_.k;
  out.codes = codes_.empty() ? nullptr : codes(set);
  out.absmax = scales(set);
  out.blocksize = problem_.blocksize;
  out.flags = pending_ ? 0 : NF4_WEIGHT_CONSTANT;
  if (problem_.nested) {
    out.absmax_dtype = NF4_U8;
    out.absmax_map = map();
    out.absmax2 = scales2(set);
    out.absmax_offset = offset();
    out.absmax_blocksize = problem_.absmax_blocksize;
  }
  return out;
}

nf4_routing_t Workload::routing() const {
  nf4_routing_t out = NF4_ROUTING_INIT;
  out.experts = problem_.experts;
  out.slots = problem_.slots();
  out.top_k = problem_.top_k;
  out.ids = ids_.get();
  out.order = order_.as<const int32_t>();
  out.ends = ends_.as<const int32_t>();
  return out;
}

void* Workload::dense(int set) {
  if (dense_.empty()) {
    const int64_t bytes = problem_.elements() * nf4ref::size_of(problem_.dtype);
    const int64_t pieces =
        sets_ == 1 ? 1 : std::clamp<int64_t>(device_.cold_bytes() / std::max<int64_t>(1, bytes) + 1, 2, sets_);
    dense_ = Pool(device_, bytes, pieces);
    for (int i = 0; i < pieces; ++i) {
      const nf4_weight_t packed = weight(i);
      device_.run([&](int, nf4_stream_t stream) {
        check(nf4_unpack(handle_, dense_.at(i), problem_.k, problem_.dtype, &packed, nullptr, stream));
      });
    }
  }
  return dense_.at(set);
}

std::vector<Product> Workload::products(int set) const {
  const Problem& p = problem_;
  const nf4_weight_t whole = weight(set);
  if (p.parts.empty()) return {{whole, 0, y()}};
  std::vector<Product> out;
  int64_t first = 0;
  for (const int64_t rows : p.parts) {
    const int64_t element = first * p.k;
    const int64_t block = element / p.blocksize;
    nf4_weight_t part = whole;
    part.rows = rows;
    part.codes = whole.codes + element / 2;
    part.absmax = static_cast<const uint8_t*>(whole.absmax) + block * nf4ref::size_of(whole.absmax_dtype);
    if (p.nested) part.absmax2 = whole.absmax2 + block / p.absmax_blocksize;
    out.push_back({part, first, y_.as<uint8_t>() + p.m * first * nf4ref::size_of(p.dtype)});
    first += rows;
  }
  return out;
}

const std::vector<int64_t>& Workload::checked_rows() {
  if (checked_rows_.empty()) {
    const int64_t affordable = device_.reference_budget() / std::max<int64_t>(1, problem_.n * problem_.k);
    const int64_t count = std::min(problem_.slots(), std::max<int64_t>(2, affordable));
    for (int64_t i = 0; i < count; ++i) {
      checked_rows_.push_back(count == 1 ? 0 : i * (problem_.slots() - 1) / (count - 1));
    }
  }
  return checked_rows_;
}

const std::vector<nf4ref::Reference>& Workload::references() {
  if (!references_) {
    const std::vector<int64_t>& rows = checked_rows();
    const auto row_bytes = static_cast<size_t>(problem_.length() * nf4ref::size_of(problem_.dtype));
    std::vector<unsigned char> all(static_cast<size_t>(problem_.m) * row_bytes);
    device_.copy_out(all.data(), x(), all.size());
    const Buffer sample(device_, rows.size() * row_bytes);
    std::vector<unsigned char> chosen;
    for (const int64_t row : rows) {
      const auto of_x = static_cast<size_t>(row / problem_.top_k);
      const auto begin = all.begin() + static_cast<std::ptrdiff_t>(of_x * row_bytes);
      chosen.insert(chosen.end(), begin, begin + static_cast<std::ptrdiff_t>(row_bytes));
    }
    device_.copy_in(sample.get(), chosen.data(), chosen.size());
    const auto count = static_cast<int64_t>(rows.size());
    if (problem_.op == NF4_OP_GEMM_TRANSPOSED) {
      references_ = device_.references(
          nf4ref::TransposedProduct{weight(0), sample.get(), problem_.length(), count, problem_.dtype});
      return *references_;
    }
    const nf4ref::Product product{weight(0), sample.get(), problem_.k, count, problem_.dtype, nullptr};
    if (problem_.op != NF4_OP_GEMM_EXPERTS) {
      references_ = device_.references(product);
      return *references_;
    }
    const std::vector<int64_t> routed = routed_experts(problem_);
    std::vector<int64_t> experts;
    for (const int64_t row : rows) experts.push_back(routed[static_cast<size_t>(row)]);
    const Buffer of_rows(device_, experts.size() * sizeof(int64_t));
    device_.copy_in(of_rows.get(), experts.data(), of_rows.bytes());
    references_ =
        device_.references(nf4ref::RoutedProduct{product, problem_.experts, count, 1, of_rows.as<int64_t>(), nullptr});
  }
  return *references_;
}

const Packed& Workload::expected() {
  if (!expected_) {
    const Problem& p = problem_;
    const Handle host = make_handle(NF4_HOST_DEVICE);
    Packed packed;
    if (p.op == NF4_OP_PACK) {
      std::vector<unsigned char> w(static_cast<size_t>(p.elements() * nf4ref::size_of(p.dtype)));
      device_.copy_out(w.data(), dense_.at(0), w.size());
      packed.codes.resize(static_cast<size_t>(p.code_bytes()));
      packed.absmax.resize(static_cast<size_t>(p.blocks()));
      check(nf4_pack(host.get(), packed.codes.data(), packed.absmax.data(), w.data(), p.k, p.dtype, p.n, p.k,
                     p.blocksize, nullptr, nullptr));
    } else {
      std::vector<float> input(static_cast<size_t>(p.blocks()));
      device_.copy_out(input.data(), absmax(0), input.size() * 4);
      std::vector<float> map_values(256);
      check(nf4_dynamic_map(map_values.data()));
      packed.codes.resize(static_cast<size_t>(p.blocks()));
      packed.absmax.resize(static_cast<size_t>(p.groups()));
      check(nf4_pack_absmax(host.get(), packed.codes.data(), packed.absmax.data(), &packed.offset, input.data(),
                            p.blocks(), map_values.data(), p.absmax_blocksize, nullptr, nullptr));
    }
    expected_ = std::move(packed);
  }
  return *expected_;
}

}  // namespace nf4bench
