"""Which of torch's kernels are used, where its own choice does not suit what is done here."""


def no_planned_attention() -> None:
    """Let no attention on a GPU go through cuDNN; call it before a model runs.

    cuDNN plans a program for every length it has not met. A step of decoding has another length each time, and so has
    nearly every batch of a training, so that planning takes longer than all the rest; flash attention plans nothing.
    """
    import torch

    torch.backends.cuda.enable_cudnn_sdp(False)
