import torch

import arrayoptim as ao

torch.manual_seed(0)
x = torch.randn(512, 8)
y = torch.sin(x.sum(dim=1, keepdim=True))
model = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1))

optimizer = ao.torch.NAdam(model.parameters(), lr=0.01, betas=(0.9, 0.99), clipnorm=1.0)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)

for epoch in range(20):
    for rows in torch.randperm(512).split(64):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(x[rows]), y[rows])
        loss.backward()
        optimizer.step()
    scheduler.step()

torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, "run.pt")
print(f"loss {torch.nn.functional.mse_loss(model(x), y).item():.3f}")
