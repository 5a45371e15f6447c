"""Decoding strategies once more, slowly: written from their papers, in plain loops over whole forwards without a cache.

Nothing of the package is used here. A `Model` tells the scores of the next token; each strategy takes one, the ids of a
prompt and its knobs, and returns the ids it writes. Draws are `torch.multinomial` from a generator of the seed.
"""

import math
from collections import Counter

import torch


class Model:
    """A model asked afresh for each text. `base=True` asks it without its adapter."""

    def __init__(self, model, ends, limit):
        self.model, self.ends, self.limit = model, set(ends), limit
        self.forwards = 0

    def output(self, ids, base=False):
        self.forwards += 1
        named = {"adapter_names": ["__base__"]} if base else {}
        with torch.no_grad():
            return self.model(torch.tensor([ids]), use_cache=False, output_hidden_states=True, **named)

    def logits(self, ids, base=False):
        """[V]"""
        return self.output(ids, base).logits[0, -1].float()

    def logprobs(self, ids, base=False):
        return self.logits(ids, base).log_softmax(-1).tolist()

    def ended(self, written):
        return len(written) >= self.limit or written[-1] in self.ends


def step_by_step(model, prompt, choose):
    """The text of a strategy that takes one token after another: `choose(text, written)`."""
    written = []
    while not written or not model.ended(written):
        written.append(choose(prompt + written, written))
    return written


def highest(scores):
    return max(range(len(scores)), key=lambda token: scores[token])


def softmax(scores):
    return torch.tensor(scores, dtype=torch.float32).softmax(-1)


def drawn(model, prompt, seed, change):
    """Sampling from the logits as `change(logits, text, written)` leaves them, a list of floats."""
    generator = torch.Generator().manual_seed(seed)

    def choose(text, written):
        scores = change(model.logits(text).tolist(), text, written)
        return int(torch.multinomial(softmax(scores)[None], 1, generator=generator))

    return step_by_step(model, prompt, choose)


# Penalties and truncations ------------------------------------------------------------------------------------------


def counted(scores, written, presence=0.0, frequency=0.0):
    """The OpenAI API: mu[j] - c[j] * frequency - (c[j] > 0) * presence, c counting what is written."""
    counts = Counter(written)
    return [
        score - counts[token] * frequency - (presence if counts[token] else 0.0) for token, score in enumerate(scores)
    ]


def top_n_sigma(scores, count):
    """Tang et al. 2024: keep z >= max(z) - n * std(z)."""
    mean = sum(scores) / len(scores)
    deviation = math.sqrt(sum((score - mean) ** 2 for score in scores) / len(scores))
    return [score if score >= max(scores) - count * deviation else -math.inf for score in scores]


def dry(scores, text, multiplier, base, allowed, breakers=frozenset()):
    """text-generation-webui #5677: a token that would go on with a repetition of n tokens pays
    multiplier * base ** (n - allowed). Tried are all ends of the text at all earlier places."""
    longest = {}
    for size in range(1, len(text)):
        end = text[-size:]
        if breakers.intersection(end):
            break
        for place in range(len(text) - size):
            if text[place : place + size] == end and text[place + size] not in breakers:
                longest[text[place + size]] = size
    fined = list(scores)
    for token, size in longest.items():
        if size >= allowed:
            fined[token] -= multiplier * base ** (size - allowed)
    return fined


def xtc(scores, threshold):
    """text-generation-webui #6335, the gate being open: of the tokens at the threshold and above the last stays."""
    probabilities = softmax(scores).tolist()
    order = sorted(range(len(scores)), key=lambda token: -probabilities[token])
    top = [token for token in order if probabilities[token] >= threshold]
    gone = set(top[:-1])
    return [-math.inf if token in gone else score for token, score in enumerate(scores)]


def mirostat(model, prompt, seed, tau, eta, temperature=1.0):
    """Basu et al. 2021, algorithm 2: truncate what surprises more than mu bits, draw, mu <- mu - eta (S - tau)."""
    generator, mu = torch.Generator().manual_seed(seed), 2 * tau

    def choose(text, _):
        nonlocal mu
        scores = [score / temperature for score in model.logits(text).tolist()]
        surprises = (-softmax(scores).double().log2()).tolist()
        first = highest(scores)
        kept = [
            score if bits <= mu or token == first else -math.inf
            for token, (score, bits) in enumerate(zip(scores, surprises, strict=True))
        ]
        token = int(torch.multinomial(softmax(kept)[None], 1, generator=generator))
        mu -= eta * (surprises[token] - tau)
        return token

    return step_by_step(model, prompt, choose)


# Against something else ---------------------------------------------------------------------------------------------


def contrastive_search(model, prompt, top_k, alpha):
    """Su et al. 2022, equation 5: the argmax over the k likeliest of (1 - alpha) p - alpha max cos(h_v, h_j)."""

    def choose(text, _):
        probabilities = model.logits(text).softmax(-1).tolist()
        likeliest = sorted(range(len(probabilities)), key=lambda token: -probabilities[token])[:top_k]
        weights = {}
        for token in likeliest:
            states = model.output([*text, token]).hidden_states[-1][0].double()
            similar = max(float(torch.cosine_similarity(states[-1], before, dim=0)) for before in states[:-1])
            weights[token] = (1 - alpha) * probabilities[token] - alpha * similar
        return max(likeliest, key=lambda token: weights[token])

    return step_by_step(model, prompt, choose)


def contrastive_decoding(model, prompt, plausibility, strength):
    """Li et al. 2022: argmax of log p_tuned - strength * log p_base where p_tuned >= plausibility * max p_tuned."""

    def choose(text, _):
        tuned, base = model.logprobs(text), model.logprobs(text, base=True)
        least = math.exp(max(tuned)) * plausibility
        plausible = [token for token in range(len(tuned)) if math.exp(tuned[token]) >= least]
        return max(plausible, key=lambda token: tuned[token] - strength * base[token])

    return step_by_step(model, prompt, choose)


def divergence(first, second):
    """Jensen-Shannon, of two lists of probabilities."""
    middle = [(p + q) / 2 for p, q in zip(first, second, strict=True)]

    def from_middle(some):
        return sum(p * math.log(p / m) for p, m in zip(some, middle, strict=True) if p > 0)

    return from_middle(first) / 2 + from_middle(second) / 2


def dola(model, prompt, layers, plausibility):
    """Chuang et al. 2023: of the early `layers` the one farthest from the last by Jensen-Shannon; argmax of
    log q_last - log q_early where q_last >= plausibility * max q_last. The head reads the layers as they are."""
    used = set()

    def choose(text, _):
        output = model.output(text)
        last = output.logits[0, -1].double().softmax(-1).tolist()
        head = model.model.get_output_embeddings()
        with torch.no_grad():
            early = {layer: head(output.hidden_states[layer][0, -1]).double().softmax(-1).tolist() for layer in layers}
        farthest = max(layers, key=lambda layer: divergence(last, early[layer]))
        used.add(farthest)
        plausible = [token for token in range(len(last)) if last[token] >= plausibility * max(last)]
        return max(plausible, key=lambda token: math.log(last[token]) - math.log(early[farthest][token]))

    return step_by_step(model, prompt, choose), used


# Beams --------------------------------------------------------------------------------------------------------------


class Beam:
    """One beam search: living hypotheses and finished ones as (score, ids), the best first."""

    def __init__(self, size, length_penalty, early_stopping=False):
        self.size, self.length_penalty, self.early_stopping = size, length_penalty, early_stopping
        self.living, self.finished, self.done = [(0.0, [])], [], False

    def extensions(self, model, prompt, fined=None):
        """All continuations as (score, ids, parent, log-probability of the last token), the best first."""
        found = []
        for parent, (score, ids) in enumerate(self.living):
            for token, logprob in enumerate(model.logprobs(prompt + ids)):
                own = logprob - (fined[token] if fined else 0.0)
                found.append((score + own, [*ids, token], parent, own))
        return sorted(found, key=lambda one: -one[0])

    def candidates(self, model, prompt, fined=None):
        """So many of them that enough go on whatever ends."""
        return self.extensions(model, prompt, fined)[: self.size * max(2, 1 + len(model.ends))]

    def go_on(self, model, found, enough):
        """Take candidates over: those that end, among the best `size`, into the finished list, others to go on."""
        length = len(found[0][1])
        closing = [
            (score / length**self.length_penalty, ids) for score, ids, *_ in found[: self.size] if model.ended(ids)
        ]
        self.finished = sorted([*self.finished, *closing], key=lambda one: -one[0])[: self.size]
        going = [(score, ids) for score, ids, *_ in found if not model.ended(ids)][: self.size]
        self.done = not going or (len(self.finished) >= enough and not self.hopes(model, going, length, enough))
        self.living = going or self.living

    def hopes(self, model, going, length, enough):
        """Whether the best living hypothesis can still beat the worst of the finished ones that count."""
        if self.early_stopping is True:
            return False
        to_the_end = self.early_stopping == "never" and self.length_penalty > 0
        reached = going[0][0] / (model.limit if to_the_end else length) ** self.length_penalty
        return reached > self.finished[enough - 1][0]


def diverse_beam(model, prompt, beams, groups, penalty, length_penalty=1.0):
    """Vijayakumar et al. 2016 with Hamming diversity: the groups in turn, each a beam search of beams / groups, which
    pays `penalty` for a token as often as earlier groups chose it at this step. Returns the best of each group."""
    teams = [Beam(beams // groups, length_penalty) for _ in range(groups)]
    while not all(team.done for team in teams):
        fined = Counter()
        for team in teams:
            if not team.done:
                team.go_on(model, team.candidates(model, prompt, fined), team.size)
                if not team.done:
                    fined.update({token: penalty * n for token, n in Counter(x[1][-1] for x in team.living).items()})
    return [team.finished[0] for team in teams]


def dynamic_beam(model, prompt, beams, absolute, local, per_node, entropy_width=0.0, **ending):
    """Freitag & Al-Onaizan 2017, rules 2 to 4, on the candidates of a beam search; the width from the entropy behind
    the best hypothesis. Returns the ids and the width at each step."""
    beam, widths = Beam(beams, ending.get("length_penalty", 1.0), ending.get("early_stopping", False)), []
    while not beam.done:
        widths.append(len(beam.living))
        found, of_node = [], Counter()
        for one in beam.candidates(model, prompt):
            of_node[one[2]] += 1
            if of_node[one[2]] <= per_node:
                found.append(one)
        best, last = max(one[0] for one in found), max(one[3] for one in found)
        good = [one for one in found if one[0] >= best - absolute and math.exp(one[3]) >= local * math.exp(last)]
        width = beams
        if entropy_width:
            behind = model.logprobs(prompt + beam.living[0][1])
            entropy = -sum(math.exp(logprob) * logprob for logprob in behind)
            width = 1 + round((beams - 1) * min(1.0, entropy / entropy_width))
        beam.go_on(model, (good or found[:1])[:width], 1)
    return beam.finished[0][1], widths
