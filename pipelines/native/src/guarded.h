// How every entry of the shim is kept from throwing: what libtorch throws becomes a text in `error` (malloc'd; the caller
// frees it with dp_free); a null `error` afterwards means success.
#pragma once

#include <ATen/ATen.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

inline char *copy_text(const std::string &text) {
    char *out = static_cast<char *>(std::malloc(text.size() + 1));
    std::memcpy(out, text.c_str(), text.size() + 1);
    return out;
}
template <typename F>
auto guarded(char **error, F body) -> decltype(body()) {
    *error = nullptr;
    try {
        return body();
    } catch (const c10::Error &e) {
        *error = copy_text(e.what_without_backtrace());
    } catch (const std::exception &e) {
        *error = copy_text(e.what());
    } catch (...) {
        *error = copy_text("unknown C++ exception");
    }
    return decltype(body())();
}
inline std::vector<at::Tensor> tensors(at::Tensor **list, int64_t n) {
    std::vector<at::Tensor> out;
    out.reserve(n);
    for (int64_t i = 0; i < n; ++i) out.push_back(*list[i]);
    return out;
}
