# cnnjax on a CPU: docker build -t cnnjax . && docker run cnnjax train --epochs=3
FROM python:3.13-slim

RUN useradd --create-home trainer
WORKDIR /cnnjax
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY cnnjax ./cnnjax
COPY scripts ./scripts
RUN python -m pip install --no-cache-dir -c constraints.txt .

USER trainer
WORKDIR /home/trainer
ENTRYPOINT ["cnnjax"]
CMD ["help"]
