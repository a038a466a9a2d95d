// SPDX-License-Identifier: GPL-2.0

//! Shows a dma-buf on the display of a DRM driver.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use anyhow::{bail, ensure, Context, Error, Result};
use drm::buffer::{self, Buffer, DrmFourcc, DrmModifier, PlanarBuffer};
use drm::control::{
    atomic::AtomicModeReq, connector, crtc, framebuffer, plane, property, AtomicCommitFlags,
    Device as _, FbCmd2Flags, Mode, PlaneType, ResourceHandle,
};
use drm::{ClientCapability, Device as _};
use rustix::event::{poll, PollFd, PollFlags, Timespec};

use crate::ffi::FenceSlot;
use crate::frame::{Frame, PIXEL};

/// A call of DRM that has failed.
#[derive(Debug)]
pub struct Refused {
    /// The name of the call in libdrm.
    pub call: &'static str,
    pub error: io::Error,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.call, self.error)
    }
}

impl std::error::Error for Refused {}

/// Adds the name of a call to its error.
trait Call<T> {
    fn call(self, call: &'static str) -> Result<T>;
}

impl<T> Call<T> for io::Result<T> {
    fn call(self, call: &'static str) -> Result<T> {
        self.map_err(|error| Refused { call, error }.into())
    }
}

/// A device of DRM.
struct Card(File);

impl AsFd for Card {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl drm::Device for Card {}
impl drm::control::Device for Card {}

/// A display: a device, and the way from a frame buffer to the outside.
pub struct Display {
    card: Card,
    crtc: crtc::Handle,
    connector: connector::Handle,
    mode: Mode,
    /// Whether the connector writes to memory instead of a screen.
    writeback: bool,
}

/// A dma-buf as a frame buffer of a display, which is released with [`Display::release`].
pub struct Imported {
    buffer: buffer::Handle,
    fb: framebuffer::Handle,
}

/// The arguments of AddFB2.
struct Plane {
    size: (u32, u32),
    pitch: u32,
    buffer: buffer::Handle,
}

impl PlanarBuffer for Plane {
    fn size(&self) -> (u32, u32) {
        self.size
    }

    fn format(&self) -> DrmFourcc {
        DrmFourcc::Xrgb8888
    }

    fn modifier(&self) -> Option<DrmModifier> {
        None
    }

    fn pitches(&self) -> [u32; 4] {
        [self.pitch, 0, 0, 0]
    }

    fn handles(&self) -> [Option<buffer::Handle>; 4] {
        [Some(self.buffer), None, None, None]
    }

    fn offsets(&self) -> [u32; 4] {
        [0; 4]
    }
}

impl Display {
    /// Opens the display of the driver with a name as in `struct drm_driver`. `size` is that
    /// of the pictures. vkms has no screen: its writeback connector is used.
    pub fn open(driver: &str, size: (u32, u32)) -> Result<Self> {
        let card = Card::open(driver)?;
        let writeback = driver == "vkms";
        if writeback {
            for capability in [
                ClientCapability::UniversalPlanes,
                ClientCapability::Atomic,
                ClientCapability::WritebackConnectors,
            ] {
                card.set_client_capability(capability, true)
                    .context("drmSetClientCap")?;
            }
        }
        let resources = card.resource_handles().context("drmModeGetResources")?;
        for &handle in resources.connectors() {
            let info = card
                .get_connector(handle, true)
                .context("drmModeGetConnector")?;
            if (info.interface() == connector::Interface::Writeback) != writeback {
                continue;
            }
            let Some(&mode) = info.modes().iter().find(|mode| {
                let (width, height) = mode.size();
                (u32::from(width), u32::from(height)) == size
            }) else {
                continue;
            };
            let encoder = *info.encoders().first().context("no encoder")?;
            let encoder = card.get_encoder(encoder).context("drmModeGetEncoder")?;
            let crtcs = resources.filter_crtcs(encoder.possible_crtcs());
            return Ok(Self {
                crtc: *crtcs.first().context("no CRTC")?,
                connector: handle,
                mode,
                writeback,
                card,
            });
        }
        bail!(
            "{driver}: no connector has the mode {} x {}",
            size.0,
            size.1
        );
    }

    /// Makes a frame buffer of a dma-buf. `shape` has the size of the picture.
    pub fn import(&self, dma_buf: impl AsFd, shape: &Frame) -> Result<Imported> {
        let buffer = self
            .card
            .prime_fd_to_buffer(dma_buf.as_fd())
            .call("drmPrimeFDToHandle")?;
        let plane = Plane {
            size: (shape.width(), shape.height()),
            pitch: shape.pitch(),
            buffer,
        };
        match self
            .card
            .add_planar_framebuffer(&plane, FbCmd2Flags::empty())
        {
            Ok(fb) => Ok(Imported { buffer, fb }),
            Err(error) => {
                self.card
                    .close_buffer(buffer)
                    .call("drmCloseBufferHandle")?;
                Err(error).call("drmModeAddFB2")
            }
        }
    }

    /// Shows a picture. Returns it as the display has it, if there is no screen.
    pub fn show(&self, picture: &Imported) -> Result<Option<Frame>> {
        if self.writeback {
            return self.write_back(picture).map(Some);
        }
        self.card
            .set_crtc(
                self.crtc,
                Some(picture.fb),
                (0, 0),
                &[self.connector],
                Some(self.mode),
            )
            .call("drmModeSetCrtc")?;
        Ok(None)
    }

    /// Releases a picture. If it is shown, the display is switched off.
    pub fn release(&self, picture: Imported) -> Result<()> {
        self.card
            .destroy_framebuffer(picture.fb)
            .call("drmModeRmFB")?;
        self.card
            .close_buffer(picture.buffer)
            .call("drmCloseBufferHandle")
    }

    /// Shows a picture on the writeback connector, and returns what it has written.
    fn write_back(&self, picture: &Imported) -> Result<Frame> {
        let (width, height) = self.mode.size();
        let size = (u32::from(width), u32::from(height));
        let mut target = self
            .card
            .create_dumb_buffer(size, DrmFourcc::Xrgb8888, 8 * PIXEL as u32)
            .call("drmModeCreateDumbBuffer")?;
        let fb = self
            .card
            .add_framebuffer(&target, 24, 8 * PIXEL as u32)
            .call("drmModeAddFB")?;
        let fence = FenceSlot::new();
        let request = self.writeback_request(picture, fb, &fence)?;
        self.card
            .atomic_commit(AtomicCommitFlags::ALLOW_MODESET, request)
            .call("drmModeAtomicCommit")?;
        let fence = fence.take().context("the commit has returned no fence")?;
        let limit = Timespec::try_from(Duration::from_secs(60))?;
        let mut fds = [PollFd::new(&fence, PollFlags::IN)];
        let ready = poll(&mut fds, Some(&limit)).context("poll")?;
        ensure!(ready == 1, "the writeback has not ended after 60 s");

        let line = size.0 as usize * PIXEL;
        let pitch = target.pitch() as usize;
        let map = self
            .card
            .map_dumb_buffer(&mut target)
            .call("drmModeMapDumbBuffer")?;
        let bytes = map
            .chunks_exact(pitch)
            .take(size.1 as usize)
            .flat_map(|bytes| &bytes[..line])
            .copied()
            .collect();
        drop(map);
        self.card.destroy_framebuffer(fb).call("drmModeRmFB")?;
        self.card
            .destroy_dumb_buffer(target)
            .call("drmModeDestroyDumbBuffer")?;
        Frame::from_bytes(size.0, size.1, bytes)
    }

    /// The request that shows a picture and writes it to `target`.
    fn writeback_request(
        &self,
        picture: &Imported,
        target: framebuffer::Handle,
        fence: &FenceSlot,
    ) -> Result<AtomicModeReq> {
        let card = &self.card;
        let (width, height) = self.mode.size();
        let plane = self.primary_plane()?;
        let mode = card
            .create_property_blob(&self.mode)
            .call("drmModeCreatePropertyBlob")?;
        let mut request = AtomicModeReq::new();
        let crtc: u64 = u32::from(self.crtc).into();
        let mut set = Setter {
            card,
            request: &mut request,
        };
        set.all(self.crtc, &[("ACTIVE", 1), ("MODE_ID", mode.into())])?;
        set.all(
            plane,
            &[
                ("FB_ID", u32::from(picture.fb).into()),
                ("CRTC_ID", crtc),
                ("SRC_X", 0),
                ("SRC_Y", 0),
                ("SRC_W", u64::from(width) << 16),
                ("SRC_H", u64::from(height) << 16),
                ("CRTC_X", 0),
                ("CRTC_Y", 0),
                ("CRTC_W", width.into()),
                ("CRTC_H", height.into()),
            ],
        )?;
        set.all(
            self.connector,
            &[
                ("CRTC_ID", crtc),
                ("WRITEBACK_FB_ID", u32::from(target).into()),
                ("WRITEBACK_OUT_FENCE_PTR", fence.property()),
            ],
        )?;
        Ok(request)
    }

    /// The primary plane of the CRTC.
    fn primary_plane(&self) -> Result<plane::Handle> {
        let card = &self.card;
        let resources = card.resource_handles().context("drmModeGetResources")?;
        for handle in card.plane_handles().context("drmModeGetPlaneResources")? {
            let info = card.get_plane(handle).context("drmModeGetPlane")?;
            let crtcs = resources.filter_crtcs(info.possible_crtcs());
            if !crtcs.contains(&self.crtc) {
                continue;
            }
            for (&id, &value) in &card.get_properties(handle).context("properties")? {
                let property = card.get_property(id).context("a property")?;
                if property.name() == c"type" && value == PlaneType::Primary as u64 {
                    return Ok(handle);
                }
            }
        }
        bail!("the CRTC has no primary plane");
    }
}

/// Adds properties to a request by their names.
struct Setter<'a> {
    card: &'a Card,
    request: &'a mut AtomicModeReq,
}

impl Setter<'_> {
    fn all<H: ResourceHandle>(&mut self, object: H, values: &[(&str, u64)]) -> Result<()> {
        let properties = self
            .card
            .get_properties(object)
            .and_then(|set| set.as_hashmap(self.card))
            .context("properties")?;
        for &(name, value) in values {
            let property: property::Handle = properties
                .get(name)
                .with_context(|| format!("there is no property {name}"))?
                .handle();
            self.request
                .add_raw_property(object.into(), property, value);
        }
        Ok(())
    }
}

impl Card {
    /// Opens the device of a driver.
    fn open(driver: &str) -> Result<Self> {
        let mut names: Vec<String> = Vec::new();
        for entry in fs::read_dir("/dev/dri").context("/dev/dri")? {
            let path = entry?.path();
            let card = path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("card"));
            if !card {
                continue;
            }
            let card = OpenOptions::new()
                .read(true)
                .write(true)
                .open(&path)
                .map(Card)
                .with_context(|| path.display().to_string())?;
            let version = card.get_driver().context("drmGetVersion")?;
            let name = version.name().to_string_lossy().into_owned();
            if name == driver {
                return Ok(card);
            }
            names.push(name);
        }
        bail!(
            "there is no device of {driver}, only of {}",
            names.join(", ")
        )
    }
}

/// The call that an error comes from, if DRM has refused something.
pub fn refused(error: &Error) -> Option<(&'static str, i32)> {
    let refused = error.downcast_ref::<Refused>()?;
    Some((refused.call, refused.error.raw_os_error()?))
}
