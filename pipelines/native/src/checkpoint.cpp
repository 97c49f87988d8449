// Recomputing instead of storing: a torch::autograd::Function around a callback (arXiv 1604.06174).
#include "guarded.h"

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <memory>

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

extern "C" {
// Runs the callback on n borrowed tensors. Returns an owned tensor, or null and a text made by dp_text.
typedef Tensor *(*dp_call)(void *data, Tensor **inputs, int64_t n, char **error);
typedef void (*dp_drop)(void *data);
}

namespace {
// Owns the callback: the graph drops it with the node, on whatever thread that happens.
struct Callback : torch::CustomClassHolder {
    void *data;
    dp_call call;
    dp_drop drop;
    Callback(void *data, dp_call call, dp_drop drop) : data(data), call(call), drop(drop) {}
    ~Callback() override { drop(data); }

    Tensor operator()(variable_list &inputs) const {
        std::vector<Tensor *> pointers;
        for (auto &input : inputs) pointers.push_back(&input);
        char *text = nullptr;
        std::unique_ptr<Tensor> made(call(data, pointers.data(), static_cast<int64_t>(pointers.size()), &text));
        if (!made) {
            std::string error = text ? text : "a recomputed part returned nothing";
            std::free(text);
            throw std::runtime_error(error);
        }
        return *made;
    }
};

// The first `count` of `inputs` are what the callback gets; the others are the leaves that it reads beside them. Both
// are saved, which costs nothing for leaves; what the callback makes on its way is not.
struct Checkpoint : torch::autograd::Function<Checkpoint> {
    static Tensor forward(AutogradContext *ctx, c10::intrusive_ptr<Callback> callback, int64_t count, at::TensorList inputs) {
        ctx->save_for_backward(inputs.vec());
        ctx->saved_data["callback"] = c10::IValue::make_capsule(callback);
        ctx->saved_data["count"] = count;
        variable_list given(inputs.begin(), inputs.begin() + count);
        return (*callback)(given);  // Function::apply has turned gradients off
    }

    static variable_list backward(AutogradContext *ctx, variable_list grad_outputs) {
        TORCH_CHECK(!at::GradMode::is_enabled(), "a checkpointed part has no second derivative: turn gradient checkpointing off");
        auto callback = ctx->saved_data["callback"].toCapsule();
        auto count = static_cast<size_t>(ctx->saved_data["count"].toInt());
        auto inputs = ctx->get_saved_variables();
        // Detached, so that the inner backward ends at them. Leaves stay themselves: the callback reads them by name.
        variable_list given, wanted;
        std::vector<size_t> places;
        for (size_t i = 0; i < inputs.size(); ++i) {
            bool needed = inputs[i].requires_grad();
            Tensor input = i < count ? inputs[i].detach().requires_grad_(needed) : inputs[i];
            if (i < count) given.push_back(input);
            if (needed) {
                wanted.push_back(input);
                places.push_back(i);
            }
        }
        variable_list grads(2 + inputs.size());  // callback and count have none
        Tensor output;
        {
            at::AutoGradMode tracking(true);
            output = static_cast<Callback &>(*callback)(given);
        }
        if (!output.requires_grad()) return grads;
        auto found = torch::autograd::grad({output}, wanted, grad_outputs, /*retain_graph=*/false, /*create_graph=*/false,
                                           /*allow_unused=*/true);
        for (size_t k = 0; k < places.size(); ++k) grads[2 + places[k]] = found[k];
        return grads;
    }
};
}  // namespace

extern "C" {

bool dp_grad_enabled() { return at::GradMode::is_enabled(); }

// Takes over `data`, whatever happens: `drop` is called exactly once.
Tensor *dp_checkpoint(void *data, dp_call call, dp_drop drop, Tensor **inputs, int64_t count, int64_t n, char **error) {
    return guarded(error, [&] {
        auto callback = c10::make_intrusive<Callback>(data, call, drop);
        auto list = tensors(inputs, n);
        return new Tensor(Checkpoint::apply(callback, count, at::TensorList(list)));
    });
}
}
