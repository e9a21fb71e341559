"""PyTorch's part of `npm run bench peers`: reads one JSON command a line and answers with one JSON line.

Every answer has `seconds` and `cpu` (this process, all threads) of the work alone, and a `value` that Reroute must find
too. Models are those of transformers in float32; what a person would write for Router KD, no less and no more.
"""

import json
import resource
import sys
import time

import numpy
import torch
import transformers

transformers.logging.set_verbosity_error()


def cpu_seconds():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def load(folder, experts):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    model.set_experts_implementation(experts)
    model.config.use_cache = False
    model.config.output_router_logits = False
    return model.requires_grad_(False)


def routers(model):
    return [layer.mlp.gate.weight for layer in model.model.layers]


class Peer:
    def open(self, threads, experts, teacher=None, student=None, **_):
        torch.set_num_threads(threads)
        self.teacher = load(teacher, experts)
        self.student = None
        if student is not None:
            self.student = load(student, experts)
            self.trained = [weight.requires_grad_(True) for weight in routers(self.student)]
            self.optimiser = torch.optim.AdamW(self.trained, lr=1e-3, weight_decay=0)
        return 0

    def read(self, ids, length, start, count):
        """Sequences [start, start + count) of a file of int32 ids."""
        rows = numpy.fromfile(ids, dtype=numpy.int32).reshape(-1, length)[start : start + count]
        return torch.from_numpy(rows.astype(numpy.int64))

    def kd(self, at_once, **batch):
        """One update of the routers; gradients of `at_once` sequences at a time, so that logits of large vocabularies fit."""
        x = self.read(**batch)
        total = 0.0
        self.optimiser.zero_grad()
        for part in x.split(at_once):
            with torch.no_grad():
                target = self.teacher(input_ids=part).logits[:, :-1].log_softmax(-1)
            own = self.student(input_ids=part).logits[:, :-1].log_softmax(-1)
            # torch.nn.functional.kl_div takes a tenth longer for the same number.
            loss = (target.exp() * (target - own)).sum() / (x.numel() - len(x))
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimiser.step()
        return total

    @torch.no_grad()
    def profile(self, at_once, **batch):
        """REAP's numbers: routing weight times norm of an expert's output, summed over its tokens, in the model's own pass."""
        sums = []

        def observed(module):
            def forward(hidden, selected, weights):
                result = torch.zeros_like(hidden)
                score = torch.zeros(module.num_experts)
                for expert in range(module.num_experts):
                    token, slot = torch.where(selected == expert)
                    if len(token) == 0:
                        continue
                    gate, up = torch.nn.functional.linear(hidden[token], module.gate_up_proj[expert]).chunk(2, -1)
                    output = torch.nn.functional.linear(module.act_fn(gate) * up, module.down_proj[expert])
                    weight = weights[token, slot]
                    score[expert] = (weight * output.norm(dim=-1)).sum()
                    result.index_add_(0, token, output * weight[:, None])
                sums.append(score)
                return result

            return forward

        blocks = [layer.mlp.experts for layer in self.teacher.model.layers]
        for block in blocks:
            block.forward = observed(block)
        x = self.read(**batch)
        for part in x.split(at_once):
            self.teacher.model(input_ids=part)
        for block in blocks:
            del block.forward
        return float(torch.stack(sums).sum()) / x.numel()

    @torch.no_grad()
    def evaluate(self, at_once, **batch):
        """KL to the teacher, loss and agreement of the most likely token; the mean KL is compared."""
        x = self.read(**batch)
        kl, nll, agreement = 0.0, 0.0, 0
        for part in x.split(at_once):
            target, own = (model(input_ids=part).logits[:, :-1].log_softmax(-1) for model in (self.teacher, self.student))
            kl += (target.exp() * (target - own)).sum().item()
            nll -= own.gather(-1, part[:, 1:, None]).sum().item()
            agreement += (target.argmax(-1) == own.argmax(-1)).sum().item()
        return kl / (x.numel() - len(x))

    @torch.no_grad()
    def forward(self, **batch):
        """Layers only, without the head."""
        return float(self.states(self.read(**batch)).square().mean())

    def gradients(self, **batch):
        """Forward pass and gradients of the routers for a gradient of ones in the last layer's output."""
        weights = [weight.requires_grad_(True) for weight in routers(self.teacher)]
        out = self.states(self.read(**batch))
        found = torch.autograd.grad(out.sum(), weights)
        return float(torch.stack([gradient.square().sum() for gradient in found]).sum().sqrt())

    def states(self, x):
        kept = []
        hook = self.teacher.model.layers[-1].register_forward_hook(
            lambda _module, _inputs, out: kept.append(out[0] if isinstance(out, tuple) else out)
        )
        try:
            self.teacher.model(input_ids=x)
        finally:
            hook.remove()
        return kept[0]

    def gemm(self, repeats, **_):
        """GFLOP/s of a float32 product of two matrices of 2048 x 2048, the best of a few."""
        a = torch.full((2048, 2048), 0.1)
        a @ a
        best = 0.0
        for _ in range(repeats):
            began = time.perf_counter()
            a @ a
            best = max(best, 2 * 2048**3 / (time.perf_counter() - began))
        return best


def main():
    peer = Peer()
    for line in sys.stdin:
        command = json.loads(line)
        work = getattr(peer, command.pop("do"))
        began, used = time.perf_counter(), cpu_seconds()
        value = work(**command)
        seconds, cpu = time.perf_counter() - began, cpu_seconds() - used
        print(json.dumps({"seconds": seconds, "cpu": cpu, "value": value}), flush=True)


main()
