"""CloudWatch's logs and alarms, and SNS."""

from __future__ import annotations

from typing import Any

from pulumi.runtime.rpc import UNKNOWN

from tests.labs.aws.provider.kind import (
    Aws,
    Kind,
    Values,
    absent,
    first,
    found,
    pairs,
    request,
    tags_of,
)


class LogGroup(Kind):
    token = "aws:cloudwatch/logGroup:LogGroup"
    named = ("name", 512)
    replaces = ("name", "namePrefix", "logGroupClass")
    defaults = {"skipDestroy": False}
    days = (1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192)
    days = (*days, 2557, 2922, 3288, 3653, 0)

    def check(self, inputs: Values) -> list[tuple[str, str]]:
        if inputs.get("retentionInDays", 0) not in (*self.days, UNKNOWN):
            return [("retentionInDays", f"expected to be one of {self.days}")]
        return []

    def create(self, aws: Aws, inputs: Values) -> str:
        client = aws.client("logs")
        elsewhere = {"name": "logGroupName", "retentionInDays": "", "skipDestroy": ""}
        given = request(client, "create_log_group", inputs, **elsewhere)
        tags = {"tags": inputs["tags"]} if inputs.get("tags") else {}
        client.create_log_group(**given, **tags)
        self.update(aws, inputs["name"], {}, inputs)
        return str(inputs["name"])

    def update(self, aws: Aws, id_: str, old: Values, new: Values) -> None:
        client, days = aws.client("logs"), new.get("retentionInDays")
        if days == old.get("retentionInDays"):
            return
        if days:
            client.put_retention_policy(logGroupName=id_, retentionInDays=int(days))
        else:
            client.delete_retention_policy(logGroupName=id_)

    def read(self, aws: Aws, id_: str, known: Values) -> Values | None:
        client = aws.client("logs")
        listed = client.describe_log_groups(logGroupNamePrefix=id_)["logGroups"]
        for each in listed:
            if each["logGroupName"] == id_:
                arn = each["arn"].removesuffix(":*")
                days = each.get("retentionInDays")
                return {
                    **{"name": id_, "arn": arn},
                    **({"retentionInDays": days} if days else {}),
                    "tags": client.list_tags_for_resource(resourceArn=arn)["tags"],
                }
        return None

    def retag(self, aws: Aws, id_: str, known: Values, gone: list[str], tags: Values) -> None:
        arn = aws.arn("logs", f"log-group:{id_}")
        if gone:
            aws.client("logs").untag_resource(resourceArn=arn, tagKeys=gone)
        if tags:
            aws.client("logs").tag_resource(resourceArn=arn, tags=tags)

    def delete(self, aws: Aws, id_: str, known: Values) -> None:
        if not known.get("skipDestroy"):
            absent(aws.client("logs").delete_log_group, logGroupName=id_)


class MetricAlarm(Kind):
    token = "aws:cloudwatch/metricAlarm:MetricAlarm"
    named = ("name", 255)
    replaces = ("name",)
    defaults = {"actionsEnabled": True, "treatMissingData": "missing"}

    def create(self, aws: Aws, inputs: Values) -> str:
        self._put(aws, inputs)
        return str(inputs["name"])

    def _put(self, aws: Aws, inputs: Values) -> None:
        client = aws.client("cloudwatch")
        given = {**inputs}
        # Its dimensions are a map here, and pairs there.
        dimensions = pairs(given.pop("dimensions", None), "Name")
        queries = given.pop("metricQueries", None) or []
        names = {"name": "AlarmName", "extendedStatistic": "ExtendedStatistic"}
        call = request(client, "put_metric_alarm", given, **names)
        if dimensions:
            call["Dimensions"] = dimensions
        if queries:
            call["Metrics"] = [_query(client, each) for each in queries]
        tags = {"Tags": pairs(inputs["tags"])} if inputs.get("tags") else {}
        client.put_metric_alarm(**call, **tags)

    def update(self, aws: Aws, id_: str, old: Values, new: Values) -> None:
        self._put(aws, new)

    def read(self, aws: Aws, id_: str, known: Values) -> Values | None:
        client = aws.client("cloudwatch")
        now = first(client.describe_alarms, "MetricAlarms", AlarmNames=[id_])
        if now is None:
            return None
        tags = client.list_tags_for_resource(ResourceARN=now["AlarmArn"])["Tags"]
        values = found(self.token, now, name="AlarmName", arn="AlarmArn")
        values = {key: each for key, each in values.items() if each != []}
        return {**values, "tags": tags_of(tags)}

    def retag(self, aws: Aws, id_: str, known: Values, gone: list[str], tags: Values) -> None:
        client, arn = aws.client("cloudwatch"), aws.arn("cloudwatch", f"alarm:{id_}")
        if gone:
            client.untag_resource(ResourceARN=arn, TagKeys=gone)
        if tags:
            client.tag_resource(ResourceARN=arn, Tags=pairs(tags))

    def delete(self, aws: Aws, id_: str, known: Values) -> None:
        absent(aws.client("cloudwatch").delete_alarms, AlarmNames=[id_])


def _query(client: Any, given: Values) -> Values:
    """Return one of an alarm's expressions as CloudWatch takes it."""
    metric = given.get("metric")
    about = {key: value for key, value in given.items() if key != "metric"}
    call: Values = request(client, "put_metric_alarm", {"metrics": [about]})["Metrics"][0]
    if metric:
        call["MetricStat"] = {
            "Metric": {
                "Namespace": metric["namespace"],
                "MetricName": metric["metricName"],
                "Dimensions": pairs(metric.get("dimensions"), "Name"),
            },
            "Period": int(metric["period"]),
            "Stat": metric["stat"],
        }
    return call


class LogMetricFilter(Kind):
    token = "aws:cloudwatch/logMetricFilter:LogMetricFilter"
    named = ("name", 512)
    replaces = ("name", "logGroupName")

    def create(self, aws: Aws, inputs: Values) -> str:
        self.update(aws, inputs["name"], {}, inputs)
        return str(inputs["name"])

    def update(self, aws: Aws, id_: str, old: Values, new: Values) -> None:
        client = aws.client("logs")
        names = {"name": "filterName", "pattern": "filterPattern"}
        one = {"name": "metricName", "namespace": "metricNamespace", "value": "metricValue"}
        names |= {f"metricTransformation.{key}": value for key, value in one.items()}
        client.put_metric_filter(**request(client, "put_metric_filter", new, **names))

    def read(self, aws: Aws, id_: str, known: Values) -> Values | None:
        listed = aws.client("logs").describe_metric_filters(
            logGroupName=known["logGroupName"], filterNamePrefix=id_
        )["metricFilters"]
        for each in listed:
            if each["filterName"] == id_:
                return {"name": id_, "pattern": each["filterPattern"]}
        return None

    def delete(self, aws: Aws, id_: str, known: Values) -> None:
        client = aws.client("logs")
        absent(client.delete_metric_filter, logGroupName=known["logGroupName"], filterName=id_)


class Topic(Kind):
    token = "aws:sns/topic:Topic"
    named = ("name", 256)
    replaces = ("name", "namePrefix", "fifoTopic")
    defaults = {"contentBasedDeduplication": False, "fifoTopic": False}
    attributes = {"displayName": "DisplayName", "kmsMasterKeyId": "KmsMasterKeyId"}

    def create(self, aws: Aws, inputs: Values) -> str:
        client = aws.client("sns")
        passed = {key: value for key, value in inputs.items() if key not in self.attributes}
        elsewhere = dict.fromkeys(self.defaults, "")
        tags = {"Tags": pairs(inputs["tags"])} if inputs.get("tags") else {}
        given = request(client, "create_topic", passed, **elsewhere)
        arn = str(client.create_topic(**given, **tags)["TopicArn"])
        self.update(aws, arn, {}, inputs)
        return arn

    def update(self, aws: Aws, id_: str, old: Values, new: Values) -> None:
        for key, name in self.attributes.items():
            if old.get(key) != new.get(key):
                aws.client("sns").set_topic_attributes(
                    TopicArn=id_, AttributeName=name, AttributeValue=new.get(key) or ""
                )

    def read(self, aws: Aws, id_: str, known: Values) -> Values | None:
        client = aws.client("sns")
        listed = first(lambda **of: {"a": [client.get_topic_attributes(**of)]}, "a", TopicArn=id_)
        if listed is None:
            return None
        tags = client.list_tags_for_resource(ResourceArn=id_)["Tags"]
        return {"arn": id_, "name": id_.rpartition(":")[2], "tags": tags_of(tags)}

    def retag(self, aws: Aws, id_: str, known: Values, gone: list[str], tags: Values) -> None:
        if gone:
            aws.client("sns").untag_resource(ResourceArn=id_, TagKeys=gone)
        if tags:
            aws.client("sns").tag_resource(ResourceArn=id_, Tags=pairs(tags))

    def delete(self, aws: Aws, id_: str, known: Values) -> None:
        absent(aws.client("sns").delete_topic, TopicArn=id_)
