"""What a stage writes down while it trains: its steps, its validation loss, what the model writes."""

from typing import Any

import torch

from finetune.config.device import memory_gb
from finetune.training.batches import collate, in_order
from finetune.training.sampling import Prompt, write_sample
from finetune.training.stage_trainer import StageTrainer


class MeasuringTrainer(StageTrainer):
    """Measures the rows held out, and tells every step."""

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Measure the validation rows (mean loss) and write the samples, as events."""
        with self.clock.paused(), torch.no_grad():
            self.network.eval()
            if len(self.part.validation) and not self.stop_asked():
                self._measure()
            for prompt in self.part.prompts:
                self._sample(prompt)
            self.network.train()
        if not self.stop_asked():
            self._evaluated = self.state.global_step
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, {})
        return {}

    def _measure(self) -> None:
        reference = self.references[1] if self.references else None
        rows, sums = self.part.validation, {"loss": 0.0, "count": 0.0}
        self._numbers = []
        for places in in_order(rows, self.optim.batch_size, self.team.rank, self.team.size):
            if self.stop_asked():
                return
            batch = collate([rows[place] for place in places], reference)
            loss = self.answer_loss(self.network, {name: value.to(self.args.device) for name, value in batch.items()})
            found: dict[str, Any] = {"loss": loss.total, "count": self.objective.count(batch), **loss.figures}
            for name, value in found.items():
                sums[name] = sums.get(name, 0.0) + float(value)
        sums = {name: self.team.sum(value) for name, value in sums.items()}
        count = sums.pop("count")
        self._demand_number(sums["loss"], self.step)
        means = {name: value / count for name, value in sums.items()}
        self._eval_loss = means.pop("loss")
        begin = {"begin": True} if self.part.index and not self.state.global_step else {}
        self.journal.write("eval", step=self.step, stage=self.part.index, eval_loss=self._eval_loss, **means, **begin)

    def take_eval_loss(self) -> float | None:
        """The loss of the evaluation that just ended, once."""
        loss, self._eval_loss = self._eval_loss, None
        return loss

    def say_early(self, best: int) -> None:
        """Tell that the stage ends before its last step."""
        step, best = self.step, self.part.first_step + best
        self.journal.write("early", step=step, stage=self.part.index, best=best)

    def stop_asked(self) -> bool:
        """Whether somebody asked to stop, the same answer in all processes."""
        return self.team.any(self.stop())

    def _sample(self, prompt: Prompt) -> None:
        """The leading process writes; the others wait at the next thing to do together, or help where it has a part."""
        if self.stop_asked() or not (self.team.leads or self.sharded):
            return
        length = self.config.watch.sample_tokens
        text = write_sample(self.network, self.tokenizer, prompt, length, self.stop)
        if self.team.leads:
            self.journal.write("sample", step=self.step, prompt=prompt.text, text=text)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Write a training step's figures as an event."""
        if "loss" not in logs:
            return
        step, part = self.state.global_step, self.part
        rate, seconds_left = self.clock.lap(step, part.all_steps - part.first_step)
        figures = {name: self.team.sum(value) for name, value in self._figures.items()}
        self.journal.write(
            "train",
            step=self.step,
            steps=part.all_steps,
            stage=part.index,
            loss=logs["loss"],
            learning_rate=logs["learning_rate"],
            grad_norm=logs.get("grad_norm"),
            tokens_per_s=rate,
            tokens=self.state.num_input_tokens_seen,
            epoch=round(self.state.epoch or 0, 4),
            eta_s=seconds_left,
            memory_gb=self.memory(),
            **figures,
        )

    def memory(self) -> float:
        """The most memory used so far, in GB: of the fullest GPU, or of all processes on a CPU."""
        used = memory_gb()
        return round(self.team.largest(used) if torch.cuda.is_available() else self.team.sum(used), 2)
