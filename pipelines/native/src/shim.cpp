// What tch lacks and libtorch has: generators, fused kernels, statistics. checkpoint.cpp has the rest.
#include "guarded.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/CachingDeviceAllocator.h>

extern "C" {

void dp_free(char *text) { std::free(text); }
// A text of the shim's own kind, for callbacks that hand an error back.
char *dp_text(const char *bytes, int64_t length) { return copy_text(std::string(bytes, length)); }

at::Generator *dp_generator(uint64_t seed, char **error) {
    return guarded(error, [&] { return new at::Generator(at::detail::createCPUGenerator(seed)); });
}
void dp_generator_free(at::Generator *g) { delete g; }

at::Tensor *dp_randn(at::Generator *g, const int64_t *shape, int64_t dims, char **error) {
    return guarded(error, [&] {
        return new at::Tensor(at::randn(at::IntArrayRef(shape, dims), *g, at::TensorOptions().dtype(at::kFloat)));
    });
}
double dp_rand(at::Generator *g, int in_double, char **error) {
    return guarded(error, [&] {
        auto options = at::TensorOptions().dtype(in_double ? at::kDouble : at::kFloat);
        return at::rand({1}, *g, options).to(at::kDouble).item<double>();
    });
}
int64_t dp_randint(at::Generator *g, int64_t high, char **error) {
    return guarded(error, [&] { return at::randint(high, {1}, *g, at::TensorOptions().dtype(at::kLong)).item<int64_t>(); });
}
at::Tensor *dp_randperm(at::Generator *g, int64_t n, char **error) {
    return guarded(error, [&] { return new at::Tensor(at::randperm(n, *g, at::TensorOptions().dtype(at::kLong))); });
}

// torch.optim.AdamW's fused kernel: parameters and state are updated in place, `steps` are float32 scalars.
void dp_fused_adamw(at::Tensor **params, at::Tensor **grads, at::Tensor **exp_avgs, at::Tensor **exp_avg_sqs,
                    at::Tensor **steps, int64_t n, double lr, double beta1, double beta2, double weight_decay, double eps,
                    char **error) {
    guarded(error, [&] {
        at::NoGradGuard no_grad;
        auto p = tensors(params, n), g = tensors(grads, n), m = tensors(exp_avgs, n), v = tensors(exp_avg_sqs, n),
             s = tensors(steps, n);
        at::_foreach_add_(s, 1);  // the kernel reads the number of the step in hand
        at::_fused_adamw_(p, g, m, v, {}, s, lr, beta1, beta2, weight_decay, eps, /*amsgrad=*/false, /*maximize=*/false);
        return 0;
    });
}

// torch.nn.utils.clip_grad_norm_'s total norm: the 2-norm of the tensors' 2-norms.
double dp_global_norm(at::Tensor **grads, int64_t n, char **error) {
    return guarded(error, [&] {
        at::NoGradGuard no_grad;
        auto norms = at::_foreach_norm(tensors(grads, n), 2);
        return at::linalg_vector_norm(at::stack(norms), 2).to(at::kDouble).item<double>();
    });
}
void dp_scale(at::Tensor **list, int64_t n, double factor, char **error) {
    guarded(error, [&] {
        at::NoGradGuard no_grad;
        at::_foreach_mul_(tensors(list, n), factor);
        return 0;
    });
}

// Peak of the bytes ever allocated on a CUDA device since the start of the process.
int64_t dp_cuda_peak_bytes(int64_t device, char **error) {
    return guarded(error, [&] {
        auto stats = c10::getDeviceAllocator(at::kCUDA)->getDeviceStats(static_cast<c10::DeviceIndex>(device));
        return stats.allocated_bytes[0].peak;
    });
}
// What the card has free, and what the caching allocator holds without using it.
int64_t dp_cuda_free_bytes(int64_t device, char **error) {
    return guarded(error, [&] {
        auto *allocator = c10::getDeviceAllocator(at::kCUDA);
        auto index = static_cast<c10::DeviceIndex>(device);
        auto stats = allocator->getDeviceStats(index);
        auto held = stats.reserved_bytes[0].current - stats.allocated_bytes[0].current;
        return static_cast<int64_t>(allocator->getMemoryInfo(index).first) + held;
    });
}
}
