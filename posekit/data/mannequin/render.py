"""The renderer: scenes in, pictures, masks and visibility out, as batched tensor operations on any device.

Figures are skinned meshes, things are rounded boxes; all go through one depth buffer at twice the picture's
resolution, so every kind of occlusion is exact. Light is computed at vertices, cloth and faces at samples, the room
at pixels with filtered textures. Only exactly rounded arithmetic is used per sample, so on a CPU a picture does not
depend on the batch it was in.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from posekit.data.mannequin import body, furniture
from posekit.data.mannequin.background import shade_room
from posekit.data.mannequin.mesh import Template
from posekit.data.mannequin.raster import NEAR, planes, rasterise
from posekit.data.mannequin.scene import RESPONSE, Scene, project
from posekit.data.mannequin.textures import DECAL, Bank, decal_bank, lookup

SAMPLES = 2  # per pixel and axis


@dataclass(frozen=True)
class Rendered:
    """One picture and what the depth buffer knows about it.

    image: (H, W, 3) uint8 RGB; owner: (H, W) uint8, 0 room and things, k + 1 person k; visibility: (P, 17) uint8,
    2 visible, 1 hidden, 0 out of the picture; hidden_by: (P, 17) uint8, 0 nothing, 1 self, 2 another, 3 a thing;
    keypoints: (P, 17, 2) float64 pixels; depth: (P, 17) metres.
    """

    image: np.ndarray
    owner: np.ndarray
    visibility: np.ndarray
    hidden_by: np.ndarray
    keypoints: np.ndarray
    depth: np.ndarray


@dataclass(frozen=True)
class _Mesh:
    """A template on a device, with the shapes of belly and bust as displacements along the normal."""

    vertices: torch.Tensor
    normals: torch.Tensor
    occlusion: torch.Tensor
    bones: torch.Tensor
    weights: torch.Tensor
    faces: torch.Tensor
    part: torch.Tensor
    face_part: torch.Tensor
    coordinates: torch.Tensor
    garment: torch.Tensor
    belly: torch.Tensor
    bust: torch.Tensor


@lru_cache(maxsize=None)
def _mesh(kind: str, device: str) -> _Mesh:
    template: Template = {
        "body": body.body_template, "head": body.head_template,
    }.get(kind, lambda: body.hat_template(kind) if kind in body.HATS else (
        body.skirt_template(float(kind)) if kind[0] == "0" else body.hair_template(kind)))()  # fmt: skip
    v, n = template.vertices, template.normals
    trunk = (template.part == body.TORSO) | (template.part == body.SKIRT)
    front = np.clip(n[:, 2], 0, 1) * trunk
    belly = front * np.exp(-(((v[:, 1] - 1.06) / 0.13) ** 2))
    bust = front * np.exp(-(((np.abs(v[:, 0]) - 0.075) / 0.055) ** 2) - ((v[:, 1] - 1.3) / 0.06) ** 2)
    arrays = (*(getattr(template, name) for name in Template.__dataclass_fields__), belly, bust)
    return _Mesh(*(torch.as_tensor(np.ascontiguousarray(a), device=device) for a in arrays))


@lru_cache(maxsize=4)
def _grain(device: str) -> torch.Tensor:
    """A long row of unit normal noise; pictures take it from different places."""
    rng = np.random.default_rng(2718)
    return torch.as_tensor(rng.standard_normal((1 << 20) + (1 << 22), dtype=np.float32), device=device)


@lru_cache(maxsize=4)
def _decals(device: str) -> torch.Tensor:
    return torch.as_tensor(decal_bank(), device=device)


def _stack(arrays: list[np.ndarray], device: str, dtype=torch.float32) -> torch.Tensor:
    return torch.as_tensor(np.concatenate(arrays), dtype=dtype, device=device)


@dataclass
class _Batch:
    """Per-person and per-picture tables of a batch of scenes."""

    picture: np.ndarray  # (P,)
    owner: np.ndarray  # (P,) number of the person in its picture, from 1
    matrices: torch.Tensor  # (P, 17, 3, 4)
    thresholds: torch.Tensor  # (P * 7, 2)
    thickness: torch.Tensor  # (P * 7, 3)
    shape: torch.Tensor  # (P, 2) belly, bust
    layers: torch.Tensor  # (P * 7 + O, 6) materials
    limits: torch.Tensor  # (P * 7 + O, 2) thresholds of the same rows
    materials: torch.Tensor
    inks: torch.Tensor


def _tables(scenes: list[Scene], device: str) -> _Batch:
    R0, t0 = body.rest_frames()
    matrices, layers, limits, first = [], [], [], 0
    people = [p for s in scenes for p in s.people]
    for s in scenes:
        girth = np.stack([p.girth for p in s.people])
        A = (s.rotations * girth[:, :, None, :]) @ np.swapaxes(R0, -1, -2)
        t = s.origins - (A @ t0[:, :, None])[..., 0]
        matrices.append(np.concatenate([A, t[..., None]], -1))
    for s in scenes:
        layers.append(np.stack([p.materials for p in s.people]).reshape(-1, 6) + first)
        limits.append(np.stack([p.thresholds for p in s.people]).reshape(-1, 2))
        first += len(s.materials)
    first = 0
    for s in scenes:
        layers.append(np.repeat(s.prims[1][:, None], 6, 1) + first)
        limits.append(np.full((len(s.prims[1]), 2), 9e9))
        first += len(s.materials)
    return _Batch(
        np.repeat(np.arange(len(scenes)), [len(s.people) for s in scenes]),
        np.concatenate([np.arange(1, len(s.people) + 1) for s in scenes]),
        _stack(matrices, device),
        _stack([p.thresholds for p in people], device),
        _stack([p.thickness for p in people], device),
        torch.tensor([(p.belly, p.bust) for p in people], dtype=torch.float32, device=device),
        _stack(layers, device, torch.int64),
        _stack(limits, device),
        _stack([s.materials for s in scenes], device),
        _stack([s.decals for s in scenes], device),
    )


def _skin(mesh: _Mesh, batch: _Batch, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Vertices and normals (p, V, 3) of one template for the people `index` (p,)."""
    row = index[:, None] * 7 + mesh.part
    limit, cloth = batch.thresholds[row], batch.thickness[row]
    s = mesh.garment
    into = ((s - limit[..., 0]) * 45.0 + 0.5).clamp_(0, 1)
    beyond = ((s - limit[..., 1]) * 45.0 + 0.5).clamp_(0, 1)
    thick = cloth[..., 0] + (cloth[..., 1] - cloth[..., 0]) * into
    thick = thick + (cloth[..., 2] - thick) * beyond
    shape = batch.shape[index]
    thick = thick + shape[:, :1] * mesh.belly + shape[:, 1:] * mesh.bust
    rest = mesh.vertices + mesh.normals * thick[..., None]
    A = batch.matrices[index]
    M = A[:, mesh.bones[:, 0]] * mesh.weights[:, 0, None, None]
    M += A[:, mesh.bones[:, 1]] * mesh.weights[:, 1, None, None]
    M += A[:, mesh.bones[:, 2]] * mesh.weights[:, 2, None, None]
    v = M[..., 0] * rest[..., :1] + M[..., 1] * rest[..., 1:2] + M[..., 2] * rest[..., 2:] + M[..., 3]
    n = M[..., 0] * mesh.normals[:, :1] + M[..., 1] * mesh.normals[:, 1:2] + M[..., 2] * mesh.normals[:, 2:]
    return v, n


@dataclass
class _Geometry:
    """Everything to draw, concatenated: V vertices, F faces."""

    vertices: list[torch.Tensor]
    normals: list[torch.Tensor]
    occlusion: list[torch.Tensor]
    picture: list[torch.Tensor]  # of vertices
    faces: list[torch.Tensor]
    region: list[torch.Tensor]  # of faces: row of `_Batch.layers`
    owner: list[torch.Tensor]  # of faces
    coordinates: list[torch.Tensor]
    count: int = 0

    def add(self, v, n, ao, picture, faces, region, owner, coordinates) -> None:
        """Append p copies of a mesh: v, n (p, V, 3); ao (p, V); picture (p,); faces (F, 3); region, owner (p, F); coordinates (p, F, 3, 4)."""
        p, V = v.shape[:2]
        start = self.count + torch.arange(p, device=v.device) * V
        self.vertices.append(v.reshape(-1, 3))
        self.normals.append(n.reshape(-1, 3))
        self.occlusion.append(ao.expand(p, V).reshape(-1))
        self.picture.append(picture[:, None].expand(p, V).reshape(-1))
        self.faces.append((faces + start[:, None, None]).reshape(-1, 3))
        self.region.append(region.reshape(-1))
        self.owner.append(owner.expand(p, len(faces)).reshape(-1))
        self.coordinates.append(coordinates.expand(p, len(faces), 3, 4).reshape(-1, 3, 4))
        self.count += p * V


def _figures(geometry: _Geometry, batch: _Batch, scenes: list[Scene], device: str) -> None:
    people = [p for s in scenes for p in s.people]
    groups: dict[str, list[int]] = {"body": list(range(len(people))), "head": list(range(len(people)))}
    for i, person in enumerate(people):
        style = person.hair_style
        if person.hat != "none":
            groups.setdefault(person.hat, []).append(i)
            style = style if style in ("bob", "long", "ponytail", "bald", "buzz") else "short"
        if style not in ("bald", "buzz"):
            groups.setdefault(style, []).append(i)
        if person.skirt:
            groups.setdefault(str(person.skirt), []).append(i)
    for kind, members in groups.items():
        mesh = _mesh(kind, device)
        index = torch.tensor(members, device=device)
        v, n = _skin(mesh, batch, index)
        picture = torch.as_tensor(batch.picture[members], device=device)
        owner = torch.as_tensor(batch.owner[members], device=device)[:, None]
        geometry.add(v, n, mesh.occlusion, picture, mesh.faces, index[:, None] * 7 + mesh.face_part, owner, mesh.coordinates)


def _things(geometry: _Geometry, batch: _Batch, scenes: list[Scene], device: str) -> None:
    rows = _stack([s.prims[0] for s in scenes], device)
    if not len(rows):
        return
    picture = torch.as_tensor(np.repeat(np.arange(len(scenes)), [len(s.prims[0]) for s in scenes]), device=device)
    owner = _stack([s.prims[2] for s in scenes], device, torch.int64)
    direction, sign, faces = (torch.as_tensor(a, device=device) for a in furniture.box_template())
    direction, sign = direction.float(), sign.float()
    centre, R, half, bevel, taper = rows[:, :3], rows[:, 3:12].reshape(-1, 3, 3), rows[:, 12:15], rows[:, 15:18], rows[:, 18:]
    local = sign * (half - bevel)[:, None] + direction * bevel[:, None]
    widen = 1.0 + taper * (local[..., 1] / half[:, 1:2])
    local = torch.stack([local[..., 0] * widen, local[..., 1], local[..., 2] * widen], -1)
    normal = direction / bevel[:, None]
    normal = normal / (normal * normal).sum(-1, keepdim=True).sqrt()

    def turn(p: torch.Tensor) -> torch.Tensor:
        return p[..., :1] * R[:, None, :, 0] + p[..., 1:2] * R[:, None, :, 1] + p[..., 2:] * R[:, None, :, 2]

    axis = direction[faces].mean(1).abs().argmax(1)
    first, second = torch.tensor((2, 0, 0), device=device)[axis], torch.tensor((1, 2, 1), device=device)[axis]
    corner = local[:, faces]
    pick = torch.arange(len(faces), device=device)
    zero = torch.zeros_like(corner[..., 0])
    coordinates = torch.stack([corner[:, pick, :, first].transpose(0, 1), corner[:, pick, :, second].transpose(0, 1), zero, zero], -1)
    region = len(batch.owner) * 7 + torch.arange(len(rows), device=device)[:, None].expand(-1, len(faces))
    v = turn(local) + centre[:, None]
    # Things darken towards the ground they stand on.
    ao = 0.72 + 0.28 * (v[..., 1] * 2.5).clamp(0, 1)
    geometry.add(v, turn(normal), ao, picture, faces, region, owner.clamp(min=-1)[:, None] + 1, coordinates)


@dataclass(frozen=True)
class _Cameras:
    """Tables with one row per picture."""

    R: torch.Tensor
    eye: torch.Tensor
    focal: torch.Tensor
    light: torch.Tensor
    key: torch.Tensor
    above: torch.Tensor
    below: torch.Tensor


def _cameras(scenes: list[Scene], device: str) -> _Cameras:
    def table(values) -> torch.Tensor:
        return torch.as_tensor(np.stack(values), dtype=torch.float32, device=device)

    return _Cameras(
        table([s.camera for s in scenes]), table([s.eye for s in scenes]), table([np.array(s.focal) for s in scenes]),
        table([s.light for s in scenes]), table([s.key for s in scenes]),
        table([s.ambient[0] for s in scenes]), table([s.ambient[1] for s in scenes]),
    )  # fmt: skip


def _illuminate(v, n, ao, picture, cameras: _Cameras) -> torch.Tensor:
    """(V, 4) red, green, blue light and highlight at vertices."""
    n = n / (n * n).sum(-1, keepdim=True).sqrt().clamp_(min=1e-6)
    light = cameras.light[picture]
    facing = (n * light).sum(-1)
    diffuse = ((facing + 0.22) / 1.22).clamp_(min=0)
    diffuse = diffuse * (0.4 + 0.6 * ao)
    ground = 0.7 + 0.3 * (v[:, 1] * 2.0).clamp(0, 1)
    up = (0.5 + 0.5 * n[:, 1:2])
    sky = (cameras.below[picture] + (cameras.above - cameras.below)[picture] * up) * (ao * ground)[:, None]
    view = cameras.eye[picture] - v
    view = view / (view * view).sum(-1, keepdim=True).sqrt()
    h = light + view
    spec = ((n * h).sum(-1) / (h * h).sum(-1).sqrt()).clamp_(min=0)
    for _ in range(4):
        spec = spec * spec
    rim = 1.0 - (n * view).sum(-1).clamp(0, 1)
    sky = sky * (1.0 + 0.25 * (rim * rim * rim))[:, None]
    return torch.cat([cameras.key[picture] * diffuse[:, None] + sky, (spec * (facing > 0))[:, None]], 1)


def _shade(attributes: torch.Tensor, region: torch.Tensor, batch: _Batch, bank: Bank, focal: torch.Tensor, device: str):
    """Samples (S, 9) -> linear colour (S, 3) and how much they take shadows of the floor (S,)."""
    w, rest = attributes[:, :1], attributes[:, 1:] / attributes[:, :1]
    u, v, s, f = rest[:, 0], rest[:, 1], rest[:, 2], rest[:, 3]
    limit = batch.limits[region]
    layer = (s > limit[:, 0]).long() + (s > limit[:, 1]).long()
    index = batch.layers.view(-1)[region * 6 + layer * 2 + (f > 0).long()]
    m = batch.materials[index]
    footprint = m[:, 6] / (w[:, 0] * focal * SAMPLES)
    t = lookup(bank, m[:, 10], u * m[:, 6] + m[:, 8], v * m[:, 7] + m[:, 9], footprint)
    colour = m[:, :3] + m[:, 3:6] * t[:, None]
    marked = torch.nonzero(m[:, 11] > 0)[:, 0]
    mm = m[marked]
    du, dv = (u[marked] - mm[:, 12]) * mm[:, 14] + 0.5, 0.5 - (v[marked] - mm[:, 13]) * mm[:, 15]
    inside = (du > 0) & (du < 1) & (dv > 0) & (dv < 1)
    texel = (mm[:, 11].long() * DECAL + (dv * DECAL).long().clamp_(0, DECAL - 1)) * DECAL + (du * DECAL).long().clamp_(0, DECAL - 1)
    weight = _decals(device)[texel].float() * (inside.float() / 255.0)[:, None]
    inks = batch.inks[index[marked]].view(-1, 4, 3)
    c = colour[marked]
    for k in range(4):
        c = c + (inks[:, k] - c) * weight[:, k : k + 1]
    colour[marked] = c
    return colour * rest[:, 4:7] + (m[:, 16] * rest[:, 7])[:, None], m[:, 17]


def _blur(picture: torch.Tensor, scenes: list[Scene]) -> torch.Tensor:
    """Separable point spread function over (B, H, W, 3); sigma in pixels from each scene."""
    sigma = np.array([s.blur for s in scenes])
    reach = 2 if sigma.max() > 0.75 else 1
    taps = np.exp(-0.5 * (np.arange(reach + 1) / np.maximum(sigma, 1e-3)[:, None]) ** 2)
    taps[:, 2:] *= (sigma > 0.75)[:, None]  # the same kernel whatever the neighbours in the batch
    taps /= (taps[:, :1] + 2 * taps[:, 1:].sum(1, keepdims=True))
    k = torch.as_tensor(taps, dtype=torch.float32, device=picture.device)[:, :, None, None, None]
    for axis in (1, 2):
        n = picture.shape[axis]
        out = picture * k[:, 0]
        for r in range(1, reach + 1):
            low = torch.cat([picture.narrow(axis, 0, 1).expand(*[r if a == axis else -1 for a in range(4)]), picture.narrow(axis, 0, n - r)], axis)
            high = torch.cat([picture.narrow(axis, r, n - r), picture.narrow(axis, n - 1, 1).expand(*[r if a == axis else -1 for a in range(4)])], axis)
            out = out + (low + high) * k[:, r]
        picture = out
    return picture


def _develop(linear: torch.Tensor, scenes: list[Scene], device: str) -> torch.Tensor:
    """Linear light (B, H, W, 3) -> uint8 through blur, response and sensor noise."""
    if max(s.blur for s in scenes) > 0:
        linear = _blur(linear, scenes)
    B, H, W, _ = linear.shape
    response = torch.as_tensor(np.stack([s.response.T for s in scenes]), dtype=torch.float32, device=device)
    index = ((linear * 0.5).clamp_(0, 1).sqrt_() * (RESPONSE - 1) + 0.5).long()
    start = torch.arange(B, device=device)[:, None, None, None] * RESPONSE
    level = response.reshape(-1)[(index + start) * 3 + torch.arange(3, device=device)]
    grain = _grain(device)
    for b, s in enumerate(scenes):
        if s.noise > 0:
            level[b] += grain[s.grain : s.grain + H * W * 3].view(H, W, 3) * s.noise
    return level.round_().clamp_(0, 255).to(torch.uint8)


def _visibility(scene: Scene, nearest: torch.Tensor, depth: torch.Tensor, face_owner: torch.Tensor, owner: np.ndarray):
    """Flags from the depth buffer: nearest (2H, 2W) faces, depth (F, 3) planes of inverse depth, owner (H, W)."""
    H, W = scene.size
    xy, z = project(scene, scene.joints)
    P = len(xy)
    inside = (xy[..., 0] >= -0.5) & (xy[..., 0] < W - 0.5) & (xy[..., 1] >= -0.5) & (xy[..., 1] < H - 0.5) & (z > NEAR)
    ix = np.clip(np.floor(xy[..., 0] + 0.5), 0, W - 1).astype(int)
    iy = np.clip(np.floor(xy[..., 1] + 0.5), 0, H - 1).astype(int)
    j = 2 * ix[..., None] + np.array((0, 1, 0, 1))
    i = 2 * iy[..., None] + np.array((0, 0, 1, 1))
    # The sample of the joint's pixel that lies nearest the joint.
    best = ((j - 2 * xy[..., :1] - 0.5) ** 2 + (i - 2 * xy[..., 1:] - 0.5) ** 2).argmin(-1)[..., None]
    j, i = np.take_along_axis(j, best, -1)[..., 0], np.take_along_axis(i, best, -1)[..., 0]
    at = torch.as_tensor(i * (2 * W) + j, device=nearest.device)
    face = nearest.view(-1)[at].cpu()
    safe = face.clamp(min=0).to(depth.device)
    plane = depth[safe].cpu().numpy().astype(np.float64)
    front = np.where(face.numpy() >= 0, 1.0 / np.maximum(plane[..., 0] + plane[..., 1] * j + plane[..., 2] * i, 1e-6), np.inf)
    who = np.where(face.numpy() >= 0, face_owner[safe].cpu().numpy(), 0)
    me = np.arange(1, P + 1)[:, None]
    size = np.array([p.stature * max(1.0, p.girth[2, 2] / p.stature) for p in scene.people])[:, None]
    flesh = body.FLESH * size
    flesh = flesh + np.array([p.belly for p in scene.people])[:, None] * np.isin(np.arange(17), (11, 12))
    clear = front >= z - flesh
    own = owner[iy, ix] == me
    visible = inside & clear & own & (who == me)
    covered = np.where(who == 0, 3, np.where(who == me, 1, 2))
    hidden_by = np.where(inside & ~visible, np.where(own & (who == me), 1, covered), 0)
    return np.where(inside, np.where(visible, 2, 1), 0).astype(np.uint8), hidden_by.astype(np.uint8), xy, z


def _owners(samples: torch.Tensor, people: int) -> np.ndarray:
    """(2H, 2W) owners of samples -> (H, W) owner of most samples of each pixel; people win ties."""
    quad = samples.cpu().numpy()
    quads = np.stack([quad[0::2, 0::2], quad[0::2, 1::2], quad[1::2, 0::2], quad[1::2, 1::2]])
    best = (quads == 0).sum(0, dtype=np.uint8) * 2
    out = np.zeros(best.shape, np.uint8)
    for k in range(1, people + 1):
        count = (quads == k).sum(0, dtype=np.uint8) * 2 + 1
        count[count == 1] = 0
        better = count > best
        out[better] = k
        best = np.maximum(best, count)
    return out


def render(scenes: list[Scene], *, device: str = "cpu") -> list[Rendered]:
    """Render scenes of one size; each result is the same whatever else is in the list (exactly so on a CPU)."""
    H, W = scenes[0].size
    B, H2, W2 = len(scenes), H * SAMPLES, W * SAMPLES
    cameras, batch = _cameras(scenes, device), _tables(scenes, device)
    g = _Geometry([], [], [], [], [], [], [], [])
    _figures(g, batch, scenes, device)
    _things(g, batch, scenes, device)
    v, n, ao, picture = torch.cat(g.vertices), torch.cat(g.normals), torch.cat(g.occlusion), torch.cat(g.picture)
    faces, region, owner, coordinates = torch.cat(g.faces), torch.cat(g.region), torch.cat(g.owner), torch.cat(g.coordinates)

    q, R = v - cameras.eye[picture], cameras.R[picture]
    cam = R[..., 0] * q[:, :1] + R[..., 1] * q[:, 1:2] + R[..., 2] * q[:, 2:]
    depth = -cam[:, 2]
    w = 1.0 / depth.clamp(min=1e-3)
    scale = cameras.focal[picture] * w * SAMPLES
    x, y = cam[:, 0] * scale + (W2 - 1) / 2, (H2 - 1) / 2 - cam[:, 1] * scale

    order = faces[:, [0, 2, 1]]  # y runs down in the picture
    fx, fy = x[order], y[order]
    area = (fx[:, 1] - fx[:, 0]) * (fy[:, 2] - fy[:, 0]) - (fx[:, 2] - fx[:, 0]) * (fy[:, 1] - fy[:, 0])
    keep = (area > 1e-6) & (depth[faces].amin(1) > NEAR)
    keep &= (fx.amax(1) >= 0) & (fx.amin(1) <= W2 - 1) & (fy.amax(1) >= 0) & (fy.amin(1) <= H2 - 1)
    kept = torch.nonzero(keep)[:, 0]
    order, fx, fy = order[kept], fx[kept], fy[kept]
    fw, fp = w[order], picture[order[:, 0]]
    nearest = rasterise(fx, fy, fw, fp, (B, H2, W2))

    at = torch.nonzero(nearest >= 0)[:, 0]
    face = nearest[at]
    seen = torch.zeros(len(kept), dtype=torch.bool, device=device)
    seen[face] = True
    shown = torch.nonzero(seen)[:, 0]
    number = torch.cumsum(seen, 0) - 1
    so = order[shown]
    lit = torch.zeros(len(v), dtype=torch.bool, device=device)
    lit[so.view(-1)] = True
    lv = torch.nonzero(lit)[:, 0]
    light = torch.empty(len(v), 4, device=device)
    light[lv] = _illuminate(v[lv], n[lv], ao[lv], picture[lv], cameras)
    values = torch.cat([coordinates[kept[shown]][:, [0, 2, 1]], light[so]], -1)
    sw = fw[shown][..., None]
    table = planes(fx[shown], fy[shown], torch.cat([sw, values * sw], -1))

    column, row = (at % W2).float(), (at // W2 % H2).float()
    p = table[number[face]]
    attributes = p[..., 0] + p[..., 1] * column[:, None] + p[..., 2] * row[:, None]
    bank = Bank.on(device)
    colour, takes = _shade(attributes, region[kept][face], batch, bank, cameras.focal[fp[face]], device)

    room, shadow = shade_room(scenes, batch.materials, bank, v, w, picture, g, device)
    pixel = (at // (W2 * H2) * H + at // W2 % H2 // SAMPLES) * W + at % W2 // SAMPLES
    colour = colour * (1.0 - takes * (1.0 - shadow.view(-1)[pixel]))[:, None]
    total = torch.zeros(B * H * W, 4, device=device)
    total.index_add_(0, pixel, torch.cat([colour, torch.ones_like(colour[:, :1])], 1))
    share = total[:, 3:] * (1.0 / SAMPLES**2)
    linear = room.view(-1, 3) * (1.0 - share) + total[:, :3] * (1.0 / SAMPLES**2)
    images = _develop(linear.view(B, H, W, 3), scenes, device).cpu().numpy()

    face_owner = owner[kept]
    owners = torch.where(nearest >= 0, face_owner[nearest.clamp(min=0)] if len(kept) else nearest, torch.zeros_like(nearest))
    owners = owners.to(torch.uint8).view(B, H2, W2)
    inverse = planes(fx, fy, fw[..., None])[:, 0]
    out = []
    for b, s in enumerate(scenes):
        mask = _owners(owners[b], len(s.people))
        flags = _visibility(s, nearest.view(B, H2, W2)[b], inverse, face_owner, mask)
        out.append(Rendered(images[b], mask, *flags))
    return out
