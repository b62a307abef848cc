"""Autoencoders of images with skdim's encoder: a variational and an adversarial one.

The decoder mirrors the encoder: a linear layer to a map of 4 x 4 pixels, then
transposed convolutions that double its size.  Both learn from plain images, as in their
papers.
"""

import torch
from torch import nn

from benchmarks.images import _training as training
from skdim._core.adversary import Discriminator
from skdim._core.calibration import calibrate
from skdim._core.runtime import seeded_generator


class Decoder(nn.Sequential):
    """A network from codes to scaled images of 32 x 32 pixels.

    ``sizes`` are the numbers of channels of the encoder's three convolutions.
    """

    def __init__(self, n_components, sizes, n_channels=3):
        first = nn.Linear(n_components, sizes[-1] * 4 * 4)
        super().__init__(first, nn.Unflatten(1, (sizes[-1], 4, 4)), nn.ReLU())
        outputs = [*sizes[-2::-1], n_channels]
        for n_in, n_out in zip(sizes[::-1], outputs, strict=True):
            self.append(nn.ConvTranspose2d(n_in, n_out, 4, stride=2, padding=1))
            self.append(nn.BatchNorm2d(n_out)).append(nn.ReLU())
        del self[-2:]  # no normalization or ReLU after the last layer


class VAE(nn.Module):
    """Loss of a variational autoencoder, with its decoder.

    See Kingma and Welling, arXiv 1312.6114.  Codes are the means of the posterior, and
    its log-variances are a linear map of the hidden layer.
    """

    def __init__(self, n_components, sizes, n_hidden):
        super().__init__()
        self.decoder = Decoder(n_components, sizes)
        self.log_variance = nn.Linear(n_hidden, n_components)

    def forward(self, inputs, hidden, codes, generator):
        """Return minus the ELBO per pixel and channel in nats, up to a constant."""
        log_variance = self.log_variance(hidden).clamp(-10, 10)
        noise = torch.empty_like(codes).normal_(generator=generator)
        restored = self.decoder(codes + noise * (log_variance / 2).exp())
        divergence = (codes.square() + log_variance.exp() - 1 - log_variance) / 2
        error = (restored - inputs).square().flatten(1).sum(1) / 2
        return (error + divergence.sum(1)).mean() / inputs[0].numel()


class AdversarialAutoencoder(nn.Module):
    """Loss of an adversarial autoencoder, with its decoder and discriminator.

    See Makhzani et al., arXiv 1511.05644.
    """

    def __init__(self, n_components, sizes, n_hidden):
        super().__init__()
        self.decoder = Decoder(n_components, sizes)
        generator = seeded_generator(torch.initial_seed())
        discriminator = Discriminator(n_components, generator)
        # Not a child: it has an optimiser of its own.
        self.adversary = discriminator, discriminator.optimizer()

    def forward(self, inputs, hidden, codes, generator):
        """Take a step of the discriminator; return the loss."""
        discriminator, optimizer = self.adversary
        discriminator.to(codes.device)
        draws = torch.empty_like(codes).normal_(generator=generator)
        optimizer.zero_grad()
        discriminator.classification_loss(codes.detach(), draws).backward()
        optimizer.step()
        error = (self.decoder(codes) - inputs).square().mean() / 2
        return error + 0.1 * discriminator.fooling_loss(codes)


def trained(make, case, X, seed, encoder, sizes):
    """Train an autoencoder on images X; return the network of its encoder on the CPU.

    ``make`` is the class of the loss.  If it is None, the network is not trained.
    """
    model, config, source, generators = training.prepared(case, X, seed, encoder)
    n_hidden = model.network.encoder.code.in_features
    loss = None if make is None else make(case.n_components, sizes, n_hidden)

    def loss_of_batch(index):
        inputs = source.take(index)
        encoder = model.network.encoder
        hidden = encoder.hidden(encoder.features(inputs))
        return loss(inputs, hidden, encoder.code(hidden), generators[1])

    if loss is not None:
        training.minimize(loss_of_batch, model, loss, source, case, generators)
    calibrate(model, config, source, generators[0])
    return model.network.cpu()
