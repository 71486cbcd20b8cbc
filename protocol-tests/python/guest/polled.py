"""What kafka-python's and aiokafka's polls return, as the scenario takes it."""


def records(polled):
    """Records by partition, made into one list of (partition, offset, key, value, headers)."""
    return [
        (record.partition, record.offset, record.key, record.value, record.headers)
        for of_partition in polled.values()
        for record in of_partition
    ]
