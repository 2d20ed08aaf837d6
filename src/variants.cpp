// The entry points that tell about variants and selection.
#include "check.hpp"
#include "registry.hpp"
#include "select.hpp"

using namespace nf4;

namespace {

const Variant& check_variant(const char* name) {
  check_not_null("variant", name);
  const Variant* variant = find_variant(name);
  if (variant == nullptr) {
    fail(NF4_ERROR_UNKNOWN_VARIANT, "variant is '{}'; there are {}", name, variant_names());
  }
  return *variant;
}

}  // namespace

nf4_status_t nf4_select(nf4_handle_t handle, const nf4_problem_t* problem, const nf4_options_t* options,
                        nf4_selection_t* selection) {
  return guarded([&] {
    check_handle(handle);
    const Problem checked = check_problem(problem);
    check_struct("selection", selection);
    const Choice choice = select(*handle, checked, check_options(options, true));
    nf4_selection_t told{0, choice.variant->name, choice.workspace_size(checked, handle->device), {}, {}};
    copy_text(told.config, choice.variant->config_text(choice.config));
    copy_text(told.reason, choice.reason());
    write_struct(selection, told);
  });
}

nf4_status_t nf4_variant_count(nf4_handle_t handle, nf4_op_t op, size_t* count) {
  return guarded([&] {
    check_handle(handle);
    check_not_null("count", count);
    *count = variants(check_op("op", op), handle->on_host()).size();
  });
}

nf4_status_t nf4_variant_info(nf4_handle_t handle, nf4_op_t op, size_t index, nf4_variant_info_t* info) {
  return guarded([&] {
    check_handle(handle);
    const auto list = variants(check_op("op", op), handle->on_host());
    check_struct("info", info);
    if (index >= list.size()) {
      fail(NF4_ERROR_INVALID_ARGUMENT, "index is {}; {} has {} variants here", index, name_of(static_cast<Op>(op)),
           list.size());
    }
    const Variant& variant = *list[index];
    write_struct(info, {0, variant.name, variant.description, variant.accuracy, op, variant.configs});
  });
}

nf4_status_t nf4_variant_config(nf4_handle_t handle, const char* variant, size_t index, char* config, size_t size) {
  return guarded([&] {
    check_handle(handle);
    const Variant& checked = check_variant(variant);
    check_not_null("config", config);
    if (index >= static_cast<size_t>(checked.configs)) {
      fail(NF4_ERROR_INVALID_ARGUMENT, "index is {}; {} has {} configs", index, variant, checked.configs);
    }
    const std::string text = checked.config_text(static_cast<int>(index));
    if (size <= text.size()) {
      fail(NF4_ERROR_INVALID_ARGUMENT, "size is {}; the config takes {} bytes", size, text.size() + 1);
    }
    copy_text(config, size, text);
  });
}

nf4_status_t nf4_variant_supports(nf4_handle_t handle, const char* variant, const nf4_problem_t* problem,
                                  int32_t* supported, char* reason, size_t reason_size) {
  return guarded([&] {
    check_handle(handle);
    const Variant& checked = check_variant(variant);
    const Problem posed = check_problem(problem);
    check_not_null("supported", supported);
    if (reason == nullptr && reason_size > 0) {
      fail(NF4_ERROR_INVALID_ARGUMENT, "reason is null, with reason_size {}", reason_size);
    }
    const std::string why_not = unsupported(*handle, posed, checked);
    *supported = why_not.empty() ? 1 : 0;
    copy_text(reason, reason_size, why_not);
  });
}
