"""Reads one cloud with another vendor's DDS and no ROS at all: `cyclone_reader.py TOPIC SECONDS` prints it as JSON.

The types are written here from the .msg files alone, so a wrong layout on our side would show.
"""
import json
import os
import sys
import time
from dataclasses import dataclass

import numpy as np
from cyclonedds.core import Policy, Qos
from cyclonedds.domain import DomainParticipant
from cyclonedds.idl import IdlStruct
from cyclonedds.idl.types import int32, sequence, uint8, uint32
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic

# On this machine alone, as ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST has it: no multicast, every local port is asked.
os.environ["CYCLONEDDS_URI"] = """
<CycloneDDS><Domain>
  <General><Interfaces><NetworkInterface address="127.0.0.1" multicast="false"/></Interfaces>
    <AllowMulticast>false</AllowMulticast></General>
  <Discovery><ParticipantIndex>auto</ParticipantIndex><MaxAutoParticipantIndex>40</MaxAutoParticipantIndex>
    <Peers><Peer address="127.0.0.1"/></Peers></Discovery>
</Domain></CycloneDDS>"""


@dataclass
class Time(IdlStruct, typename="builtin_interfaces::msg::dds_::Time_"):
    sec: int32
    nanosec: uint32


@dataclass
class Header(IdlStruct, typename="std_msgs::msg::dds_::Header_"):
    stamp: Time
    frame_id: str


@dataclass
class PointField(IdlStruct, typename="sensor_msgs::msg::dds_::PointField_"):
    name: str
    offset: uint32
    datatype: uint8
    count: uint32


@dataclass
class PointCloud2(IdlStruct, typename="sensor_msgs::msg::dds_::PointCloud2_"):
    header: Header
    height: uint32
    width: uint32
    fields: sequence[PointField]
    is_bigendian: bool
    point_step: uint32
    row_step: uint32
    data: sequence[uint8]
    is_dense: bool


def main(topic: str, seconds: float) -> int:
    participant = DomainParticipant(int(os.environ["ROS_DOMAIN_ID"]))
    qos = Qos(Policy.Reliability.BestEffort, Policy.DataRepresentation(use_cdrv0_representation=True))
    reader = DataReader(participant, Topic(participant, f"rt{topic}", PointCloud2, qos=qos), qos=qos)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for cloud in reader.take(1):
            data = bytes(cloud.data)
            x, y, z = (np.ndarray(cloud.width, "<f4", data, offset, cloud.point_step) for offset in (0, 4, 8))
            print(json.dumps({
                "stamp": [cloud.header.stamp.sec, cloud.header.stamp.nanosec], "frame_id": cloud.header.frame_id,
                "points": cloud.width, "bytes": len(cloud.data), "point_step": cloud.point_step,
                "fields": [[field.name, field.offset, field.datatype] for field in cloud.fields],
                "mean": [float(axis.mean(dtype=float)) for axis in (x, y, z)]}))
            return 0
        time.sleep(0.02)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], float(sys.argv[2])))
