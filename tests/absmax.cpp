// nf4_pack_absmax and nf4_unpack_absmax: nested quantization by its definition.
#include "support/operands.hpp"

namespace nf4test {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// By a linear scan: past every fp32 midpoint below x; on a midpoint, the even side.
int nearest(const std::vector<float>& map, float x) {
  if (std::isnan(x)) x = 0.0f;
  int index = 0;
  for (int i = 0; i < 255; ++i) {
    const float midpoint = (map[static_cast<size_t>(i)] + map[static_cast<size_t>(i) + 1]) * 0.5f;
    if (x > midpoint || (x == midpoint && i % 2 != 0)) index = i + 1;
  }
  return index;
}

void check_pack_absmax(const Backend& backend) {
  const std::vector<float> map = dynamic_map();
  for_each_config(backend, NF4_OP_PACK_ABSMAX, [&](const nf4_variant_info_t&, const nf4_options_t& options) {
    std::mt19937 random(21);
    for (const int64_t count : {0, 1, 2, 31, 255, 256, 257, 4097, 100003}) {
      for (const int32_t blocksize : {32, 256, 4096}) {
        for (const int kind : {0, 1, 2}) {  // spread, all the same, one NaN
          INFO("count " << count << " blocksize " << blocksize << " kind " << kind);
          std::vector<float> absmax = uniform(random, static_cast<size_t>(count), 0.01f, 0.05f);
          if (kind == 1) std::fill(absmax.begin(), absmax.end(), 0.25f);
          if (kind == 2 && count > 0) absmax[static_cast<size_t>(count / 2)] = kNan;
          const auto groups = static_cast<size_t>((count + blocksize - 1) / blocksize);
          Arena arena(backend.on_host());
          const Arena::Slot in = arena.add(absmax);
          const Arena::Slot in_map = arena.add(map);
          const Arena::Slot codes = arena.add_output(static_cast<size_t>(count));
          const Arena::Slot absmax2 = arena.add_output(groups * sizeof(float));
          const Arena::Slot offset = arena.add_output(sizeof(float));
          arena.upload();
          require_success(nf4_pack_absmax(backend.handle(), arena.at<uint8_t>(codes), arena.at<float>(absmax2),
                                          arena.at<float>(offset), arena.at<float>(in), count, arena.at<float>(in_map),
                                          blocksize, &options, nullptr));
          arena.download();
          CHECK(arena.trespass({codes, absmax2, offset}) == "");

          double sum = 0;
          for (const float value : absmax) sum += static_cast<double>(value);
          const float mean = count > 0 ? static_cast<float>(sum / static_cast<double>(count)) : 0.0f;
          const float found_mean = *arena.after<float>(offset);
          if (kind == 2 && count > 0) {  // poisoned: visibly so in every scale
            CHECK(std::isnan(found_mean));
            continue;
          }
          CHECK(found_mean == mean);
          int64_t wrong = 0;
          for (size_t g = 0; g < groups; ++g) {
            const size_t begin = g * static_cast<size_t>(blocksize);
            const size_t end = std::min(begin + static_cast<size_t>(blocksize), absmax.size());
            float scale = 0;
            for (size_t i = begin; i < end; ++i) scale = std::max(scale, std::fabs(absmax[i] - mean));
            wrong += arena.after<float>(absmax2)[g] != scale;
            for (size_t i = begin; i < end; ++i)
              wrong += arena.after<uint8_t>(codes)[i] != nearest(map, (absmax[i] - mean) / scale);
          }
          CHECK(wrong == 0);
        }
      }
    }
  });
}

void check_unpack_absmax(const Backend& backend) {
  for_each_config(backend, NF4_OP_UNPACK_ABSMAX, [&](const nf4_variant_info_t&, const nf4_options_t& options) {
    std::mt19937 random(23);
    for (const nf4_dtype_t absmax_dtype : kAbsmaxDtypes) {
      for (const int64_t cols : {1, 64, 65, 20000, 1000003}) {
        INFO("absmax " << absmax_dtype << " cols " << cols);
        const WeightData data = random_weight(random, 1, cols, 64, absmax_dtype);
        Arena arena(backend.on_host());
        const ArenaWeight weight(arena, data);
        const Arena::Slot out = arena.add_output(static_cast<size_t>(data.blocks()) * sizeof(float));
        arena.upload();
        nf4_weight_t view = weight.view();
        view.codes = nullptr;
        require_success(nf4_unpack_absmax(backend.handle(), arena.at<float>(out), &view, &options, nullptr));
        arena.download();
        CHECK(arena.trespass({out}) == "");
        const nf4_weight_t host_view = data.view();
        int64_t wrong = 0;
        for (int64_t i = 0; i < data.blocks(); ++i)
          wrong += arena.after<float>(out)[i] != nf4ref::absmax_at(host_view, i);
        CHECK(wrong == 0);
      }
    }
  });
}

}  // namespace

NF4_ON_BOTH("pack_absmax: by definition", "", check_pack_absmax(backend))
NF4_ON_BOTH("unpack_absmax: each storage of the scales", "", check_unpack_absmax(backend))

}  // namespace nf4test
